package buildertest

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"io"
	"log"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"
)

// A CertificateFault is a server's certificate that clients do not accept.
type CertificateFault struct {
	// Name is its fault, and Words are in the error for it.
	Name  string
	Words []string
	// change makes it wrong.
	change func(*x509.Certificate)
}

// CertificateFaults are the faults that have a cause of their own.
func CertificateFaults() []CertificateFault {
	return []CertificateFault{
		{"of an unknown authority", []string{"signed by an unknown authority (CN=Test Authority)"}, func(*x509.Certificate) {}},
		{"expired", []string{"has expired on 2001-"}, func(c *x509.Certificate) { c.NotBefore, c.NotAfter = time.Unix(9e8, 0), time.Unix(1e9, 0) }},
		{"not yet valid", []string{"is not valid before", "clock"}, func(c *x509.Certificate) { c.NotBefore = time.Now().Add(time.Hour) }},
		{"of another host", []string{"is for elsewhere.example.com, not for 127.0.0.1"}, func(c *x509.Certificate) {
			c.IPAddresses, c.DNSNames = nil, []string{"elsewhere.example.com"}
		}},
	}
}

// Serve starts a server with the certificate, and returns its URL.
func (f CertificateFault) Serve(t *testing.T, handler http.Handler) (url string) {
	t.Helper()
	authority := newCertificate(t, func(c *x509.Certificate) { c.Subject.CommonName, c.IsCA = "Test Authority", true }, nil)
	own := newCertificate(t, f.change, authority)
	server := httptest.NewUnstartedServer(handler)
	server.Config.ErrorLog = log.New(io.Discard, "", 0)
	server.TLS = &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{own.der}, PrivateKey: own.key}}}
	server.StartTLS()
	t.Cleanup(server.Close)
	return server.URL
}

// authority is a certificate with its key.
type authority struct {
	certificate *x509.Certificate
	der         []byte
	key         *ecdsa.PrivateKey
}

// newCertificate makes a certificate for this host, changed. A nil signer has it sign
// itself.
func newCertificate(t *testing.T, change func(*x509.Certificate), signer *authority) *authority {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	change(template)
	made := &authority{certificate: template, key: key}
	if signer == nil {
		signer = made
	}
	if made.der, err = x509.CreateCertificate(rand.Reader, template, signer.certificate, &key.PublicKey, signer.key); err != nil {
		t.Fatal(err)
	}
	return made
}
