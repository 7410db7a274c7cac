package amazon

import (
	"context"
	"crypto/rand"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"sync/atomic"
	"testing"

	"github.com/packer-chroot/packer-plugin-chroot/bake"
	"github.com/packer-chroot/packer-plugin-chroot/bake/cloudtest"
	"github.com/packer-chroot/packer-plugin-chroot/builder"
	"github.com/packer-chroot/packer-plugin-chroot/loopcloud/state"
)

// TestThrottledForLong throttles each call of a full build for 30 seconds, and some for
// ever.
func TestThrottledForLong(t *testing.T) {
	f := newFalsifier(t)
	clock := new(cloudtest.Clock)
	throttle := &cloudtest.Throttle{Next: f.wire, Refuse: f.wire.Refuse, Clock: clock, Action: func(_ *http.Request, body []byte) string {
		form, _ := url.ParseQuery(string(body))
		return form.Get("Action")
	}}
	server := httptest.NewServer(throttle)
	defer server.Close()
	build := func(ctx context.Context, t *testing.T, waits bake.Waits) error {
		t.Helper()
		cloud := f.cloud(t, Config{Config: builder.Config{Sharing: builder.Sharing{SnapshotUsers: []string{"222222222222"}}}, SourceConfig: SourceConfig{SourceAMI: f.source}, PublishConfig: PublishConfig{AMIUsers: []string{"222222222222"}, DeregistrationProtection: ProtectionConfig{Enabled: true}}})
		cloud.client.policy.Clock, cloud.client.endpoint = clock, server.URL
		cloud.client.ec2 = cloud.client.in(cloud.client.Region())
		_, err := bake.Build(ctx, cloud, cloudtest.Machine(), bake.Plan{
			Build: bake.BuildID(rand.Text()), ImageName: "new", Waits: waits,
			Provision: func(context.Context, bake.Workplace) error { return nil },
		}, cloudtest.Log(t.Logf))
		return err
	}
	throttle.Throttled(t, cloudtest.Subject{
		Build: build, Resources: f.things, Remove: f.removeNew,
		Creating: []string{"CreateVolume", "AttachVolume", "CreateSnapshot", "RegisterImage", "DescribeInstances", "ModifyImageAttribute"},
	})
}

// removeNew removes the image that a build has created, and its snapshot.
func (f *falsifier) removeNew(t *testing.T) {
	t.Helper()
	for _, image := range f.state.Images(account) {
		if image.Name != "new" {
			continue
		}
		if _, err := f.state.ProtectImage(account, image.ID, state.Unprotected, false); err != nil {
			t.Error(err)
		}
		if err := f.state.DeleteImage(account, image.ID, false); err != nil {
			t.Error(err)
		}
		root := image.Mappings[slices.IndexFunc(image.Mappings, func(m state.Mapping) bool { return m.Device == image.RootDevice })]
		if err := f.state.DeleteSnapshot(account, root.Volume.SnapshotID, false); err != nil {
			t.Error(err)
		}
	}
}

// TestThrottledSTS checks that throttled STS requests are retried more often than by the SDK
// itself, for each way to assume a role. The retries do not use up an MFA code.
func TestThrottledSTS(t *testing.T) {
	for _, name := range []string{"assume_role", "mfa_code", "web identity of a profile"} {
		t.Run(name, func(t *testing.T) {
			e := newCredentialEnv(t)
			tokens, asked := e.queries(), new(atomic.Int32)
			e.Setenv("AWS_ENDPOINT_URL_STS", e.serve(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if asked.Add(1) > 3 {
					tokens.ServeHTTP(w, r)
					return
				}
				w.WriteHeader(http.StatusBadRequest)
				fmt.Fprint(w, "<ErrorResponse><Error><Code>Throttling</Code><Message>Rate exceeded</Message></Error></ErrorResponse>")
			})))
			if _, err := Dial(t.Context(), sources[name].set(e), 0); err != nil || asked.Load() != 4 {
				t.Errorf("after %d requests: %v", asked.Load(), err)
			}
		})
	}
}
