package faults

import (
	"context"
	"fmt"
	"hash/crc32"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"
	"github.com/google/go-cmp/cmp"

	"github.com/packer-chroot/packer-plugin-chroot/acceptance/harness"
)

// foreignResources are resources of the account that no build has created, by the kind of their IDs:
// vol, snap and ami. They resemble a build's as closely as possible.
type foreignResources map[string][]string

// createForeign creates foreign resources: a volume of the source's snapshot, a snapshot of it, and an
// image of that. The source image and its snapshot are foreign too.
func createForeign(b *harness.Box) foreignResources {
	b.Helper()
	ctx, c := context.Background(), b.Client()
	source, err := c.DescribeImages(ctx, &ec2.DescribeImagesInput{ImageIds: []string{harness.SourceID}})
	b.Must(err)
	root := source.Images[0].BlockDeviceMappings[0].Ebs
	volume, err := c.CreateVolume(ctx, &ec2.CreateVolumeInput{AvailabilityZone: aws.String(harness.Region + "a"), SnapshotId: root.SnapshotId, Size: root.VolumeSize, VolumeType: root.VolumeType})
	b.Must(err)
	eventually(b, func() bool { return holds(b, "volume "+*volume.VolumeId+" available") })
	snapshot, err := c.CreateSnapshot(ctx, &ec2.CreateSnapshotInput{VolumeId: volume.VolumeId})
	b.Must(err)
	eventually(b, func() bool { return holds(b, "snapshot "+*snapshot.SnapshotId+" completed") })
	image, err := c.RegisterImage(ctx, &ec2.RegisterImageInput{
		Name: aws.String("theirs " + *volume.VolumeId), RootDeviceName: aws.String("/dev/sda1"), VirtualizationType: aws.String("hvm"),
		BlockDeviceMappings: []types.BlockDeviceMapping{{DeviceName: aws.String("/dev/sda1"), Ebs: &types.EbsBlockDevice{SnapshotId: snapshot.SnapshotId}}},
	})
	b.Must(err)
	eventually(b, func() bool { return holds(b, "image "+*image.ImageId+" available") })
	return foreignResources{
		"vol": {*volume.VolumeId}, "snap": {*snapshot.SnapshotId, *root.SnapshotId}, "ami": {*image.ImageId, harness.SourceID},
	}
}

// holds reports whether the cloud's inventory has a line.
func holds(b *harness.Box, line string) bool { return slices.Contains(b.Inventory(), line) }

// eventually waits until a condition holds.
func eventually(b *harness.Box, is func() bool) {
	b.Helper()
	for begun := time.Now(); !is(); time.Sleep(20 * time.Millisecond) {
		if time.Since(begun) > time.Minute {
			b.Fatal("the expected state was not reached")
		}
	}
}

// known returns all existing resources by their IDs.
func known(b *harness.Box) harness.Roles {
	b.Helper()
	all := harness.Roles{}
	for id := range b.Roles() {
		all[id] = id
	}
	return all
}

// wrongID is a creating call whose response has the ID of a foreign resource.
type wrongID struct {
	action, kind string
	nth          int
}

func (w wrongID) String() string { return fmt.Sprintf("%s, %s %d", w.action, w.kind, w.nth) }

// TestFaultWrongID makes each creating call return the ID of an existing resource of another owner. The build must
// fail, say so, remove its own resources, and touch no other.
func TestFaultWrongID(t *testing.T) {
	harness.Each(t, harness.Covered(), func(t *testing.T, f harness.Flavor) {
		all := []wrongID{
			{"CreateVolume", "vol", 0}, {"CreateSnapshot", "snap", 0}, {"CreateSnapshot", "snap", 1},
			{"RegisterImage", "ami", 0}, {"RegisterImage", "ami", 1},
		}
		if f.Direct {
			all = slices.DeleteFunc(all, func(w wrongID) bool { return w.kind == "vol" })
		}
		sideBySide(t, f, all, wrongID.String, func(b *harness.Box, _ []string, w wrongID) {
			id := createForeign(b)[w.kind][w.nth]
			before, known := b.Inventory(), known(b)
			details := b.Holdings(known)
			rewrite := map[string]string{"match": w.kind + "-[0-9a-f]+", "with": id}
			if f.Direct && w.kind == "snap" { // the response has the ID of the parent too
				rewrite = map[string]string{"match": `"SnapshotId":"[^"]+"`, "with": `"SnapshotId":"` + id + `"`}
			}
			out, ok, met := buildWithFaults(b, b.Template(f.Basic(map[string]any{"tags": map[string]string{"a": "b"}}), harness.Shell("true")), map[string]any{
				"action": f.Action(w.action), "times": 1,
				"rewrite": []map[string]string{rewrite},
			})
			if !met || ok {
				b.Errorf("met: %t, succeeded: %t", met, ok)
			}
			checkOutcome(b, before, out, ok, id+`.*it is left alone`)
			if diff := cmp.Diff(details, b.Holdings(known)); diff != "" {
				b.Errorf("others' resources (-before +after):\n%s", diff)
			}
		})
	})
}

// edited rewrites the lines of all journals, with valid checksums.
func edited(b *harness.Box, change func(line string) string) {
	b.Helper()
	paths, err := filepath.Glob(filepath.Join(stateDir(b), "*.journal"))
	b.Must(err)
	for _, path := range paths {
		text, err := os.ReadFile(path)
		b.Must(err)
		var out []byte
		for line := range strings.Lines(string(text)) {
			line = change(strings.TrimSuffix(line[9:], "\n"))
			out = fmt.Appendf(out, "%08x %s\n", crc32.Checksum([]byte(line), crc32.MakeTable(crc32.Castagnoli)), line)
		}
		b.Must(os.WriteFile(path, out, 0o600))
	}
}

// stateDir returns the directory of the journals of the box's builds.
func stateDir(b *harness.Box) string {
	b.Helper()
	for _, v := range slices.Backward(b.Env) {
		if dir, ok := strings.CutPrefix(v, "PACKER_CHROOT_STATE_DIR="); ok {
			return dir
		}
	}
	b.Fatal("the box has no state directory")
	return ""
}

// aResource matches the ID of a resource in a journal.
var aResource = regexp.MustCompile(`"(vol|snap|ami)-[0-9a-f]+"`)

// TestFaultWrongJournal puts random IDs of other resources into the journals of killed builds. Only the build's own
// resources may be removed. SEED repeats a run.
func TestFaultWrongJournal(t *testing.T) {
	rounds := 2
	if harness.All {
		rounds = 20
	}
	harness.Each(t, harness.Covered(), func(t *testing.T, f harness.Flavor) {
		chance := rand.New(rand.NewPCG(harness.Seed, 0))
		b := harness.New(t, f.Host()...)
		shortenWaits(b)
		moments := []harness.Moment{harness.Provisioning, harness.After("CreateSnapshot"), harness.After("RegisterImage")}
		for n := range rounds {
			m := moments[(n+1)%len(moments)]
			theirs := createForeign(b)
			before, known := b.Inventory(), known(b)
			details := b.Holdings(known)
			b.KillAt(f, m, harness.KillEverything)
			truth := map[string]string{}
			paths, err := filepath.Glob(filepath.Join(stateDir(b), "*.journal"))
			b.Must(err)
			for _, path := range paths {
				text, err := os.ReadFile(path)
				b.Must(err)
				truth[path] = string(text)
			}
			edited(b, func(line string) string {
				return aResource.ReplaceAllStringFunc(line, func(id string) string {
					kind, _, _ := strings.Cut(id[1:], "-")
					if like := theirs[kind]; chance.IntN(3) == 0 {
						return `"` + like[chance.IntN(len(like))] + `"`
					}
					return id
				})
			})
			all, _ := b.Reap(f)
			after := b.Holdings(known)
			for _, line := range details {
				if !slices.Contains(after, line) {
					t.Errorf("SEED=%d: after a kill %v, %q is not as it was:\n%s\nreap: %+v", harness.Seed, m, line, strings.Join(after, "\n"), all)
				}
			}
			for path, text := range truth { // what is left of the build goes by the right journal
				b.Must(os.WriteFile(path, []byte(text), 0o600))
			}
			if all, status := b.Reap(f); status != 0 {
				t.Errorf("reap by the right journal: status %d, %+v", status, all)
			}
			b.Unchanged(before)
			b.Control(http.MethodDelete, "faults", nil, nil)
		}
		b.Clean()
	})
}
