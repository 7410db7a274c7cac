package osc

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"regexp"
	"strings"
	"time"

	"github.com/packer-chroot/packer-plugin-chroot/builder"
	"github.com/packer-chroot/packer-plugin-chroot/retry"
)

// linkLocal is where every VM finds its metadata.
const linkLocal = "http://169.254.169.254"

// metadataLimit bounds a question to the metadata service, which is on the same
// host and answers in milliseconds or is not there.
const metadataLimit = 3 * time.Second

// metadataTries is how often a service that is there, and does not answer as it should,
// is asked; metadataWait is the time between. One that takes no connection within
// metadataDial is not there.
const (
	metadataTries = 3
	metadataWait  = 200 * time.Millisecond
	metadataDial  = 2 * time.Second
)

// metadata asks the metadata service of the VM that this program runs on.
type metadata struct {
	endpoint string
	// vm is the vm_id of the user; empty if the service is to be asked.
	vm   string
	http *http.Client
}

// newMetadata has a transport of its own: metadata is never asked through a
// proxy, and never with the API's TLS settings.
func newMetadata(access Access) metadata {
	return metadata{endpoint: cmp.Or(access.MetadataEndpoint, linkLocal), vm: access.VMID, http: &http.Client{
		Timeout:   metadataLimit,
		Transport: &http.Transport{Proxy: nil, DisableKeepAlives: true, DialContext: (&net.Dialer{Timeout: metadataDial}).DialContext},
	}}
}

var vmID = regexp.MustCompile(`^i-[0-9a-f]{8}([0-9a-f]{9})?$`)

// instanceID asks which VM this is.
func (m metadata) instanceID(ctx context.Context) (string, error) {
	if m.vm != "" {
		return m.vm, nil
	}
	id, err := m.getRepeatedly(ctx, "/latest/meta-data/instance-id")
	if err != nil {
		return "", fmt.Errorf("cannot find out which VM this is: the metadata service at %s %s: "+
			"osc-chroot builds on an Outscale VM; elsewhere, set vm_id, or custom_endpoint_metadata (or OSC_METADATA_ENDPOINT): %w", m.endpoint, m.fault(err), err)
	}
	if !vmID.MatchString(id) {
		return "", fmt.Errorf("cannot find out which VM this is: the metadata service at %s says %q, which is no VM's id",
			m.endpoint, excerpt([]byte(id)))
	}
	return id, nil
}

// zoneName matches the name of a zone, which is a letter after that of its region.
var zoneName = regexp.MustCompile(`^([a-z0-9]+(?:-[a-z0-9]+)*-[0-9]+)[a-z]$`)

// region asks for the region of this VM. It is an error if the metadata are not to be
// asked.
func (m metadata) region(ctx context.Context) (string, error) {
	if m.vm != "" {
		return "", errors.New("vm_id is set, so the metadata service is not asked")
	}
	zone, err := m.getRepeatedly(ctx, "/latest/meta-data/placement/availability-zone")
	if err != nil {
		return "", fmt.Errorf("the metadata service at %s %s: %w", m.endpoint, m.fault(err), err)
	}
	found := zoneName.FindStringSubmatch(zone)
	if found == nil {
		return "", fmt.Errorf("the metadata service at %s says that the zone is %q", m.endpoint, excerpt([]byte(zone)))
	}
	return found[1], nil
}

// getRepeatedly reads an entry, and repeats that after transient errors. Other errors are
// returned at once.
func (m metadata) getRepeatedly(ctx context.Context, path string) (string, error) {
	for n := 1; ; n++ {
		text, err := m.get(ctx, path)
		if err == nil || n == metadataTries || !isTransient(err) {
			return text, err
		}
		if err := new(retry.Policy).Sleep(ctx, metadataWait); err != nil {
			return "", err
		}
	}
}

// fault returns the cause of a failed request, for an error message.
func (m metadata) fault(err error) string {
	var status *statusError
	switch {
	case errors.As(err, &status) && status.busy():
		return fmt.Sprintf("is overloaded (HTTP status %d): try again, and have fewer programs ask it", status.code)
	case errors.As(err, &status):
		return "refuses the question, or does not know it"
	case builder.Unanswered(err):
		return fmt.Sprintf("takes connections, and did not answer within %s: it is overloaded, or a firewall drops its answers", m.http.Timeout)
	}
	return "does not answer"
}

// statusError is an answer that is none.
type statusError struct {
	path, status string
	code         int
}

// busy reports whether the service could not answer for the moment.
func (e *statusError) busy() bool {
	return e.code >= http.StatusInternalServerError || e.code == http.StatusTooManyRequests
}

func (e *statusError) Error() string { return fmt.Sprintf("GET %s: HTTP %s", e.path, e.status) }

// isTransient reports whether the request may succeed if it is repeated: the service exists, and is
// overloaded or closed the connection. A request without any response is not repeated, so that the
// user sees the error soon.
func isTransient(err error) bool {
	var status *statusError
	if errors.As(err, &status) {
		return status.busy()
	}
	if builder.Unanswered(err) {
		return false
	}
	return !builder.Unreached(err)
}

func (m metadata) get(ctx context.Context, path string) (string, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, m.endpoint+path, http.NoBody)
	if err != nil {
		return "", err
	}
	resp, err := m.http.Do(req)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, 4096))
	switch {
	case err != nil:
		return "", err
	case resp.StatusCode != http.StatusOK:
		return "", &statusError{path: path, status: resp.Status, code: resp.StatusCode}
	}
	return strings.TrimSpace(string(body)), nil
}
