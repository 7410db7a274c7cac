package osc

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"net/http"
	"regexp"
	"strings"
	"time"
)

// linkLocal is where every VM finds its metadata.
const linkLocal = "http://169.254.169.254"

// metadataLimit bounds a question to the metadata service, which is on the same
// host and answers in milliseconds or is not there.
const metadataLimit = 3 * time.Second

// metadata asks the metadata service of the VM that this program runs on.
type metadata struct {
	endpoint string
	// vm is what the user says in its place, if so.
	vm   string
	http *http.Client
}

// newMetadata has a transport of its own: metadata is never asked through a
// proxy, and never with the API's TLS settings.
func newMetadata(access Access) metadata {
	return metadata{endpoint: cmp.Or(access.MetadataEndpoint, linkLocal), vm: access.VMID, http: &http.Client{
		Timeout:   metadataLimit,
		Transport: &http.Transport{Proxy: nil, DisableKeepAlives: true},
	}}
}

var vmID = regexp.MustCompile(`^i-[0-9a-f]{8}([0-9a-f]{9})?$`)

// instanceID asks which VM this is.
func (m metadata) instanceID(ctx context.Context) (string, error) {
	if m.vm != "" {
		return m.vm, nil
	}
	id, err := m.get(ctx, "/latest/meta-data/instance-id")
	if err != nil {
		return "", fmt.Errorf("cannot find out which VM this is: the metadata service at %s does not answer: "+
			"osc-chroot builds on an Outscale VM; elsewhere, set vm_id, or custom_endpoint_metadata (or OSC_METADATA_ENDPOINT): %w", m.endpoint, err)
	}
	if !vmID.MatchString(id) {
		return "", fmt.Errorf("cannot find out which VM this is: the metadata service at %s says %q, which is no VM's id",
			m.endpoint, excerpt([]byte(id)))
	}
	return id, nil
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
		return "", fmt.Errorf("GET %s: HTTP %s", path, resp.Status)
	}
	return strings.TrimSpace(string(body)), nil
}
