package acceptance

import (
	"context"
	"net/http"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"
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

// TestFaultOfALateName: an image that has the name and is not shown when the build begins is
// replaced when it is shown, if the user wants that, and named otherwise.
func TestFaultOfALateName(t *testing.T) {
	both(t, func(t *testing.T, f flavor) {
		b := newBox(t)
		b.control(http.MethodPost, "faults", map[string]any{"action": "RegisterImage", "times": 1, "stale": map[string]any{"reads": 12}}, nil)
		old := b.registered("made by " + f.name)
		out := b.build(b.template(f.basic(o{"force_deregister": true, "force_delete_snapshot": true}), shell("true")))
		if made := b.made().ID; made == old || !strings.Contains(out, "Deregistering "+old) {
			t.Errorf("the image is %s, which was %s:\n%s", made, old, out)
		}
		if !matrices {
			return
		}
		b.remove(b.made().ID)
		b.control(http.MethodPost, "faults", map[string]any{"action": "RegisterImage", "times": 1, "stale": map[string]any{"reads": 12}}, nil)
		old = b.registered("made by " + f.name)
		b.fails(b.template(f.basic(nil), shell("true")), "is in use by "+old, "force_deregister")
	})
}

// registered makes an image of the source's snapshot.
func (b *box) registered(name string) string {
	b.t.Helper()
	ctx := context.Background()
	root := b.image(sourceID).BlockDeviceMappings[0]
	copied, err := b.client().CopySnapshot(ctx, &ec2.CopySnapshotInput{SourceSnapshotId: root.Ebs.SnapshotId, SourceRegion: aws.String(region)})
	b.must(err)
	for state := types.SnapshotState(""); state != types.SnapshotStateCompleted; {
		found, err := b.client().DescribeSnapshots(ctx, &ec2.DescribeSnapshotsInput{SnapshotIds: []string{*copied.SnapshotId}})
		b.must(err)
		state = found.Snapshots[0].State
	}
	made, err := b.client().RegisterImage(ctx, &ec2.RegisterImageInput{
		Name: &name, RootDeviceName: root.DeviceName,
		BlockDeviceMappings: []types.BlockDeviceMapping{{DeviceName: root.DeviceName, Ebs: &types.EbsBlockDevice{SnapshotId: copied.SnapshotId}}},
	})
	b.must(err)
	return *made.ImageId
}
