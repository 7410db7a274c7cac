package osc

import (
	"context"
	"crypto/rand"
	"net/http"
	"net/http/httptest"
	"path"
	"slices"
	"strings"
	"testing"

	"github.com/packer-chroot/packer-plugin-chroot/bake"
	"github.com/packer-chroot/packer-plugin-chroot/bake/cloudtest"
	"github.com/packer-chroot/packer-plugin-chroot/builder"
	"github.com/packer-chroot/packer-plugin-chroot/loopcloud/state"
)

// TestThrottledForLong throttles each call of a full build for 30 seconds, and some without
// end, in each of the API's ways.
func TestThrottledForLong(t *testing.T) {
	environment(t, nil)
	for code, status := range map[string]int{"6": http.StatusServiceUnavailable, "24": http.StatusTooManyRequests, "25": http.StatusTooManyRequests} {
		t.Run("code "+code, func(t *testing.T) {
			o := newOutscale(t, state.Instant())
			clock := new(cloudtest.Clock)
			throttle := &cloudtest.Throttle{
				Next: o.wire, Clock: clock,
				Action: func(r *http.Request, _ []byte) string {
					if !strings.HasPrefix(r.URL.Path, "/api/") {
						return ""
					}
					return path.Base(r.URL.Path)
				},
				Refuse: func(w http.ResponseWriter, _ *http.Request) {
					w.Header().Set("Content-Type", "application/json")
					w.WriteHeader(status)
					_, _ = w.Write([]byte(refused(status, "AccessDenied", code, "Request rate exceeded.").body))
				},
			}
			server := httptest.NewServer(throttle)
			defer server.Close()
			build := func(ctx context.Context, t *testing.T, waits bake.Waits) error {
				t.Helper()
				cloud := o.cloud(t, Config{Config: builder.Config{Sharing: builder.Sharing{SnapshotUsers: []string{other}}}, PublishConfig: PublishConfig{OMIAccountIDs: []string{other}}})
				cloud.client.retry.Clock, cloud.client.access.Endpoint = clock, server.URL+"/api/v1"
				_, err := bake.Build(ctx, cloud, cloudtest.Machine(), bake.Plan{
					Build: bake.BuildID(rand.Text()), ImageName: "new", Waits: waits,
					Labels: func(bake.Facts) (bake.Labels, error) {
						return bake.Labels{ImageTags: map[string]string{"a": "b"}}, nil
					},
					Provision: func(context.Context, bake.Workplace) error { return nil },
				}, cloudtest.Log(t.Logf))
				return err
			}
			throttle.Throttled(t, cloudtest.Subject{
				Build: build, Resources: (&falsifier{outscale: o}).things, Remove: o.removeNew,
				Creating: []string{"CreateVolume", "CreateTags", "LinkVolume", "CreateSnapshot", "CreateImage", "ReadVms", "UpdateImage"},
			})
		})
	}
}

// removeNew removes the image that a build has created, and its snapshot.
func (o *outscale) removeNew(t *testing.T) {
	t.Helper()
	for _, image := range o.state.Images(mine) {
		if image.Name != "new" {
			continue
		}
		if err := o.state.DeleteImage(mine, image.ID, false); err != nil {
			t.Error(err)
		}
		root := image.Mappings[slices.IndexFunc(image.Mappings, func(m state.Mapping) bool { return m.Device == image.RootDevice })]
		if err := o.state.DeleteSnapshot(mine, root.Volume.SnapshotID, false); err != nil {
			t.Error(err)
		}
	}
}
