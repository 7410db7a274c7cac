package faults

import (
	"context"
	"net/http"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"
	"github.com/google/go-cmp/cmp"

	"github.com/packer-chroot/packer-plugin-chroot/acceptance/harness"
)

// lateChanges makes the result of every act unknown to changing calls for some refusals.
func lateChanges(refusals int) map[string]any {
	return map[string]any{"stale": map[string]any{"changes": refusals}}
}

// TestFaultOfLateChanges checks that a full build succeeds, and that one that fails at its end undoes everything,
// although changing calls lag behind describing calls.
func TestFaultOfLateChanges(t *testing.T) {
	harness.Each(t, harness.WithDirect, func(t *testing.T, f harness.Flavor) {
		t.Run("success", func(t *testing.T) {
			k := harness.NewFullBox(t, f)
			k.Control(http.MethodPost, "faults", lateChanges(3), nil)
			k.Build(k.Full(f, k.Source, ""))
			k.Control(http.MethodDelete, "faults", nil, nil)
			onlyNewImages(k)
			if harness.All {
				late, clean := k.Now(), harness.NewFullBox(t, f)
				clean.Build(clean.Full(f, clean.Source, ""))
				if diff := cmp.Diff(clean.Now(), late); diff != "" {
					t.Errorf("it is not as a build makes it whose calls know all (-all +late):\n%s", diff)
				}
			}
		})
		if !harness.All {
			return
		}
		for _, last := range []string{"ModifySnapshotAttribute", "RegisterImage", "CreateSnapshot"} {
			t.Run("failure at "+last, func(t *testing.T) {
				k := harness.NewFullBox(t, f)
				k.Control(http.MethodPost, "faults", []any{
					lateChanges(3), map[string]any{"action": nameOfCall(f, last), "error": "denied", "times": 1},
				}, nil)
				out := k.Fails(k.Full(f, k.Source, ""))
				k.Control(http.MethodDelete, "faults", nil, nil)
				if diff := cmp.Diff(k.Before, k.Now()); diff != "" {
					t.Errorf("not all is undone (-before +after):\n%s\n%s", diff, out)
				}
			})
		}
	})
}

// nameOfCall returns a flavor's name of a call, by EC2's name.
func nameOfCall(f harness.Flavor, call string) string {
	if f.Name == "osc-chroot" && call == "ModifySnapshotAttribute" {
		return "UpdateSnapshot"
	}
	return f.Action(call)
}

// onlyNewImages fails the test unless the images with the name are those that a build created.
func onlyNewImages(k *harness.FullBox) {
	k.Helper()
	for _, at := range []string{harness.Region, harness.Elsewhere} {
		for _, image := range k.OwnImages(at) {
			old := k.Name != "osc-chroot" || at == harness.Region // Outscale has no copies elsewhere
			if id := aws.ToString(image.ImageId); id != harness.SourceID && old && harness.PlainTags(image.Tags)["old"] == "one" {
				k.Errorf("the old image %s in %s is still there", id, at)
			}
		}
	}
}

// TestFaultOfALateName checks that an image of the same name that is not shown when the build
// begins is replaced once it is shown, if the user wants that, and is named in the error
// otherwise.
func TestFaultOfALateName(t *testing.T) {
	harness.Both(t, func(t *testing.T, f harness.Flavor) {
		b := harness.New(t)
		b.Control(http.MethodPost, "faults", map[string]any{"action": "RegisterImage", "times": 1, "stale": map[string]any{"reads": 12}}, nil)
		old := registered(b, "made by "+f.Name)
		out := b.Build(b.Template(f.Basic(harness.O{"force_deregister": true, "force_delete_snapshot": true}), harness.Shell("true")))
		if made := b.Made().ID; made == old || !strings.Contains(out, "Deregistering "+old) {
			t.Errorf("the image is %s, which was %s:\n%s", made, old, out)
		}
		if !harness.All {
			return
		}
		b.Remove(b.Made().ID)
		b.Control(http.MethodPost, "faults", map[string]any{"action": "RegisterImage", "times": 1, "stale": map[string]any{"reads": 12}}, nil)
		old = registered(b, "made by "+f.Name)
		b.Fails(b.Template(f.Basic(nil), harness.Shell("true")), "is in use by "+old, "force_deregister")
	})
}

// registered registers an image of the source's snapshot.
func registered(b *harness.Box, name string) string {
	b.Helper()
	ctx := context.Background()
	root := b.Describe(harness.SourceID).BlockDeviceMappings[0]
	copied, err := b.Client().CopySnapshot(ctx, &ec2.CopySnapshotInput{SourceSnapshotId: root.Ebs.SnapshotId, SourceRegion: aws.String(harness.Region)})
	b.Must(err)
	for state := types.SnapshotState(""); state != types.SnapshotStateCompleted; {
		found, err := b.Client().DescribeSnapshots(ctx, &ec2.DescribeSnapshotsInput{SnapshotIds: []string{*copied.SnapshotId}})
		b.Must(err)
		state = found.Snapshots[0].State
	}
	made, err := b.Client().RegisterImage(ctx, &ec2.RegisterImageInput{
		Name: &name, RootDeviceName: root.DeviceName,
		BlockDeviceMappings: []types.BlockDeviceMapping{{DeviceName: root.DeviceName, Ebs: &types.EbsBlockDevice{SnapshotId: copied.SnapshotId}}},
	})
	b.Must(err)
	return *made.ImageId
}
