package builder

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"
)

// TLSFault returns the TLS error of a failed request and advice. It is empty if the failure has
// another cause. trust says how to trust another certificate, such as "set
// insecure_skip_tls_verify".
func TLSFault(err error, trust string) string {
	var header tls.RecordHeaderError
	var alert tls.AlertError
	switch {
	case errors.As(err, &header) || errors.Is(err, http.ErrSchemeMismatch):
		return "it does not speak TLS: give its URL with http:// instead of https://"
	case errors.As(err, &alert):
		return fmt.Sprintf("it refused the TLS connection (%v): it may want a client certificate", alert)
	}
	if fault := certificateFault(err); fault != "" {
		return fault + ", or " + trust
	}
	return ""
}

// certificateFault returns why a server's certificate is not accepted, and the remedy.
func certificateFault(err error) string {
	var (
		unknown x509.UnknownAuthorityError
		host    x509.HostnameError
		invalid x509.CertificateInvalidError
		other   *tls.CertificateVerificationError
	)
	switch {
	case errors.As(err, &unknown):
		return fmt.Sprintf("its certificate is signed by an unknown authority%s: add that to the trusted certificates of this host", issuer(unknown.Cert))
	case errors.As(err, &host):
		return fmt.Sprintf("its certificate is for %s, not for %s: use the right host name", namesOf(host.Certificate), host.Host)
	case errors.As(err, &invalid) && invalid.Reason == x509.Expired && invalid.Cert != nil:
		return period(invalid.Cert)
	case errors.As(err, &invalid), errors.As(err, &other):
		return "its certificate is not accepted: replace it"
	}
	return ""
}

// issuer names the authority that signed a certificate, in parentheses.
func issuer(c *x509.Certificate) string {
	switch {
	case c == nil:
		return ""
	case slices.Equal(c.RawIssuer, c.RawSubject):
		return " (itself)"
	}
	return fmt.Sprintf(" (%s)", c.Issuer)
}

// namesOf lists the hosts that a certificate is for.
func namesOf(c *x509.Certificate) string {
	if c == nil {
		return "another host"
	}
	names := slices.Clone(c.DNSNames)
	for _, ip := range c.IPAddresses {
		names = append(names, ip.String())
	}
	if len(names) == 0 {
		return "no host"
	}
	return strings.Join(names, ", ")
}

// period says that a certificate is not valid now.
func period(c *x509.Certificate) string {
	if now := time.Now(); now.Before(c.NotBefore) {
		return fmt.Sprintf("its certificate is not valid before %s, and this machine's clock shows %s: set the clock",
			c.NotBefore.UTC().Format(time.RFC3339), now.UTC().Format(time.RFC3339))
	}
	return fmt.Sprintf("its certificate has expired on %s: renew it, check this machine's clock", c.NotAfter.UTC().Format(time.RFC3339))
}
