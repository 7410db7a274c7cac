package osc

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"

	"github.com/packer-chroot/packer-plugin-chroot/builder"
)

// explain adds advice for the user to an error of the first call.
func (c *Client) explain(err error) error {
	var no *refusal
	var unknown *net.DNSError
	switch {
	case errors.As(err, &no):
		if advice := c.adviceOnRefusal(no, ""); advice != "" {
			return fmt.Errorf("%s: %w", advice, err)
		}
		return err
	case errors.Is(err, context.Canceled):
		return err
	case errors.As(err, &unknown) && unknown.IsNotFound:
		return fmt.Errorf("%w: %w", c.noHost(unknown.Name, c.access.Endpoint == outscaleEndpoint(c.access.Region)), err)
	}
	if fault := tlsFault(err); fault != "" {
		return fmt.Errorf("cannot reach the Outscale API at %s (custom_endpoint_oapi or OSC_ENDPOINT_API): %s: %w", c.access.Endpoint, fault, err)
	}
	return fmt.Errorf("cannot reach the Outscale API at %s: check custom_endpoint_oapi (or OSC_ENDPOINT_API), "+
		"region, and the network: %w", c.access.Endpoint, err)
}

// noHost returns the error of an endpoint with an unknown host. The endpoint follows from the
// region, unless it was given.
func (c *Client) noHost(name string, ofRegion bool) error {
	if ofRegion {
		return fmt.Errorf("there is no host %s: region is %q (option region, OSC_REGION, or the profile's): check the region's name", name, c.access.Region)
	}
	return fmt.Errorf("there is no host %s: check custom_endpoint_oapi (or OSC_ENDPOINT_API)", name)
}

func tlsFault(err error) string {
	return builder.TLSFault(err, "set insecure_skip_tls_verify (or OSC_TLS_SKIP_VERIFY), which accepts any certificate")
}

// advised is an error of a call with advice for the user.
type advised struct {
	err    error
	advice string
}

func (a *advised) Error() string { return fmt.Sprintf("%v (%s)", a.err, a.advice) }

func (a *advised) Unwrap() error { return a.err }

// advise adds advice for the user to an error of a call. For the first call of a client see
// explain.
func (c *Client) advise(call string, err error) error {
	var already *advised
	var no *refusal
	if err == nil || c.account == "" || errors.As(err, &already) {
		return err
	}
	advice := ""
	if errors.As(err, &no) {
		advice = c.adviceOnRefusal(no, call)
	} else if fault := tlsFault(err); fault != "" {
		advice = c.access.Endpoint + ": " + fault
	}
	if advice == "" {
		return err
	}
	return &advised{err, advice}
}

// adviceOnRefusal returns advice for the user about a refusal; empty if the refusal needs none.
// call is empty for a client's first call.
func (c *Client) adviceOnRefusal(no *refusal, call string) string {
	switch {
	case no.untimely():
		return fmt.Sprintf("the clock of this machine is %s the one of the Outscale API at %s, which refuses requests of another time: set it (NTP)",
			no.lag(), c.access.Endpoint)
	case no.locked():
		return fmt.Sprintf("the account of access key %s is locked after too many refused signatures: "+
			"wait a minute, then check secret_key (or OSC_SECRET_KEY)", c.access.AccessKey)
	case no.badKeys() && call == "":
		return fmt.Sprintf("the Outscale API at %s refuses the access key %s: check access_key and secret_key "+
			"(or OSC_ACCESS_KEY and OSC_SECRET_KEY), and that they belong to region %s", c.access.Endpoint, c.access.AccessKey, c.access.Region)
	case no.refusedKeys():
		return fmt.Sprintf("the Outscale API at %s refuses the access key %s, which it accepted before: it has expired, or was disabled or deleted; "+
			"check access_key and secret_key (or OSC_ACCESS_KEY and OSC_SECRET_KEY)", c.access.Endpoint, c.access.AccessKey)
	case no.throttled():
		return fmt.Sprintf("Outscale throttles %s: build fewer images at the same time, or raise PACKER_CHROOT_PATIENCE", no.limit())
	case no.denied() && call != "":
		return fmt.Sprintf("the EIM policies of access key %s do not allow %s, or the owner of the resource does not", c.access.AccessKey, call)
	}
	return ""
}

// denied means that the keys are good, and may not do that.
func (r *refusal) denied() bool { return r.Status == http.StatusForbidden }
