package acceptance

import (
	"net/http"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/google/go-cmp/cmp"
)

// lateChanges makes the result of every act unknown to changing calls for some refusals.
func lateChanges(refusals int) map[string]any {
	return map[string]any{"stale": map[string]any{"changes": refusals}}
}

// TestFaultOfLateChanges: a full build succeeds, and one that fails at its end undoes all,
// although no changing call of the cloud knows what its describing calls have shown.
func TestFaultOfLateChanges(t *testing.T) {
	both(t, func(t *testing.T, f flavor) {
		t.Run("success", func(t *testing.T) {
			k := newKilling(t, f)
			k.control(http.MethodPost, "faults", lateChanges(3), nil)
			k.build(k.full(f, k.source, ""))
			k.control(http.MethodDelete, "faults", nil, nil)
			k.onlyNewImages()
			if matrices {
				late, clean := k.things(k.known), newKilling(t, f)
				clean.build(clean.full(f, clean.source, ""))
				if diff := cmp.Diff(clean.things(clean.known), late); diff != "" {
					t.Errorf("it is not as a build makes it whose calls know all (-all +late):\n%s", diff)
				}
			}
		})
		if !matrices {
			return
		}
		for _, last := range []string{"ModifySnapshotAttribute", "RegisterImage", "CreateSnapshot"} {
			t.Run("failure at "+last, func(t *testing.T) {
				k := newKilling(t, f)
				k.control(http.MethodPost, "faults", []any{
					lateChanges(3), map[string]any{"action": nameOfCall(f, last), "error": "denied", "times": 1},
				}, nil)
				out := k.fails(k.full(f, k.source, ""))
				k.control(http.MethodDelete, "faults", nil, nil)
				if diff := cmp.Diff(k.before, k.things(k.known)); diff != "" {
					t.Errorf("not all is undone (-before +after):\n%s\n%s", diff, out)
				}
			})
		}
	})
}

// nameOfCall returns a flavor's name of a call, by EC2's.
func nameOfCall(f flavor, call string) string {
	if f.name == "osc-chroot" && call == "ModifySnapshotAttribute" {
		return "UpdateSnapshot"
	}
	return f.nameOf(call)
}

// onlyNewImages fails the test unless the images of the name are those that a build made.
func (k *killing) onlyNewImages() {
	k.t.Helper()
	for _, at := range []string{region, elsewhere} {
		for _, image := range k.ownImages(at) {
			old := k.name != "osc-chroot" || at == region // Outscale has no copies elsewhere
			if id := aws.ToString(image.ImageId); id != sourceID && old && plainTags(image.Tags)["old"] == "one" {
				k.t.Errorf("the old image %s in %s is still there", id, at)
			}
		}
	}
}
