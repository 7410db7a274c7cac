package osc

import (
	"net/http"
	"strings"
	"testing"

	"github.com/packer-chroot/packer-plugin-chroot/bake"
	"github.com/packer-chroot/packer-plugin-chroot/bake/cloudtest"
	"github.com/packer-chroot/packer-plugin-chroot/builder"
	"github.com/packer-chroot/packer-plugin-chroot/builder/buildertest"
	"github.com/packer-chroot/packer-plugin-chroot/loopcloud/state"
)

// says checks that the error is not nil and contains all of the words.
func says(t *testing.T, err error, words ...string) {
	t.Helper()
	if err == nil {
		t.Fatalf("no error, want one that says %q", words)
	}
	for _, word := range words {
		if !strings.Contains(err.Error(), word) {
			t.Errorf("error %q does not say %q", err, word)
		}
	}
}

// TestFaultsOfACertificate checks that an error names the fault of the API's certificate, and
// the option that accepts it.
func TestFaultsOfACertificate(t *testing.T) {
	environment(t, nil)
	for _, fault := range buildertest.CertificateFaults() {
		t.Run(fault.Name, func(t *testing.T) {
			url := fault.Serve(t, http.NotFoundHandler())
			_, err := Dial(t.Context(), Access{AccessKey: "AK", SecretKey: "SK", Region: home, Endpoint: url})
			says(t, err, append(fault.Words, url, "insecure_skip_tls_verify")...)
		})
	}
}

// TestPlainEndpoint checks that the error says that the endpoint does not use TLS.
func TestPlainEndpoint(t *testing.T) {
	environment(t, nil)
	o := newOutscale(t, state.Instant())
	access := o.access()
	access.Endpoint = strings.Replace(access.Endpoint, "http:", "https:", 1)
	_, err := Dial(t.Context(), access)
	says(t, err, "does not speak TLS", "http://", "custom_endpoint_oapi")
}

// TestUnknownRegion checks that the error names the region if the host of its endpoint cannot
// be found, unless the endpoint is a custom one.
func TestUnknownRegion(t *testing.T) {
	environment(t, nil)
	access := Access{AccessKey: "AK", SecretKey: "SK", Region: "eu-wset-2.invalid", Endpoint: "https://api.example.invalid"}
	c, err := newClient(access)
	if err != nil {
		t.Fatal(err)
	}
	c.retry.Clock = new(cloudtest.Clock)
	_, err = c.readAccount(t.Context())
	says(t, err, "no host api.example.invalid", "custom_endpoint_oapi")
	if strings.Contains(err.Error(), "region is") {
		t.Errorf("it is the region's fault: %v", err)
	}
	c.access.Endpoint = outscaleEndpoint("eu-wset-2.invalid")
	c.access.Endpoint = strings.Replace(c.access.Endpoint, "outscale.com", "invalid", 1)
	says(t, c.noHost("api.eu-wset-2.invalid", true), `region is "eu-wset-2.invalid"`, "check the region's name")
}

// acts are calls that a build makes in the middle, by the API's name.
var acts = map[string]func(*testing.T, *Cloud) error{
	"ReadVolumes":  func(t *testing.T, c *Cloud) error { _, err := c.Volume(t.Context(), "vol-1"); return err },
	"DeleteVolume": func(t *testing.T, c *Cloud) error { return c.DeleteVolume(t.Context(), "vol-1") },
	"LinkVolume":   func(t *testing.T, c *Cloud) error { return c.Attach(t.Context(), "vol-1", "i-1", "/dev/xvdb") },
	"UnlinkVolume": func(t *testing.T, c *Cloud) error { return c.Detach(t.Context(), "vol-1", "i-1") },
	"CreateVolume": func(t *testing.T, c *Cloud) error {
		_, err := c.CreateVolume(t.Context(), bake.VolumeSpec{Build: "b", Zone: "a", SizeGiB: 1})
		return err
	},
	"CreateSnapshot": func(t *testing.T, c *Cloud) error {
		_, err := c.CreateSnapshot(t.Context(), bake.SnapshotSpec{Build: "b", Volume: "vol-1"})
		return err
	},
	"DeleteSnapshot": func(t *testing.T, c *Cloud) error { return c.DeleteSnapshot(t.Context(), "snap-1") },
	"DeleteImage":    func(t *testing.T, c *Cloud) error { return c.Deregister(t.Context(), "ami-1") },
	"CreateImage": func(t *testing.T, c *Cloud) error {
		_, err := c.Register(t.Context(), bake.ImageSpec{Build: "b", Name: "new", Snapshot: "snap-1", SizeGiB: 1})
		return err
	},
}

// TestKeysRefusedInEveryCall checks that the error says once, with advice, that a call was
// refused because of the keys.
func TestKeysRefusedInEveryCall(t *testing.T) {
	for call, act := range acts {
		for _, refusal := range []struct {
			status     int
			kind, code string
			words      []string
		}{
			{http.StatusUnauthorized, "AccessDenied", "1", []string{"refuses the access key AKME, which it accepted before", "expired", "disabled or deleted", "check access_key and secret_key"}},
			{http.StatusBadRequest, "InvalidParameterValue", "4120", []string{"which it accepted before"}},
			{http.StatusUnauthorized, "AccessDenied", "13", []string{"locked"}},
			{http.StatusForbidden, "AccessDenied", "4", []string{"EIM policies of access key AKME do not allow " + call}},
		} {
			t.Run(call+" "+refusal.code, func(t *testing.T) {
				// lookups before, or after some refusals
				answers := map[string][]reply{"ReadVolumes": {found}, "ReadImages": {{200, "{}"}}, "ReadVms": {{200, "{}"}}}
				answers[call] = []reply{refused(refusal.status, refusal.kind, refusal.code, "no")}
				err := act(t, newFake(t, answers).cloud(Config{Config: builder.Config{FromScratch: true, RootDeviceName: "/dev/sda1"}}))
				says(t, err, append(refusal.words, "code "+refusal.code)...)
				if err != nil && strings.Count(err.Error(), refusal.words[0]) > 1 {
					t.Errorf("told twice: %v", err)
				}
			})
		}
	}
}
