package cloudtest

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"hash/crc32"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/packer-chroot/packer-plugin-chroot/bake"
	"github.com/packer-chroot/packer-plugin-chroot/chroot"
)

// Moment is when a build is killed.
type Moment string

// The moments at which builds are killed. Together their journals hold a volume, a
// reservation, an attachment, a mount, a snapshot, an image, a replaced image and, if the
// cloud has copies, a copy.
const (
	Provisioning Moment = "provisioning"
	Publishing   Moment = "publishing"
)

// errKilled is the error of every step after a build was killed.
var errKilled = errors.New("killed")

// killer takes a copy of the journals at a moment, and has everything fail from then on.
type killer struct {
	bake.Cloud
	t        *testing.T
	stateDir string
	journal  *string
}

// In implements bake.Cloud.
func (k killer) In(region string) bake.Cloud {
	k.Cloud = k.Cloud.In(region)
	return k
}

// Publish kills the build.
func (k killer) Publish(context.Context, bake.PublishSpec) error {
	k.kill()
	return errKilled
}

func (k killer) kill() {
	if *k.journal != "" {
		return
	}
	paths, err := filepath.Glob(filepath.Join(k.stateDir, "*.journal"))
	if err != nil || len(paths) != 1 {
		k.t.Errorf("journals of a running build: %q, %v", paths, err)
		return
	}
	text, err := os.ReadFile(paths[0])
	if err != nil {
		k.t.Error(err)
	}
	*k.journal = string(text)
}

// killable is a Machine whose mounts can be written to a journal.
type killable struct{ bake.Machine }

// Record implements bake.Machine.
func (killable) Record(_ context.Context, spec chroot.MountSpec) (chroot.RootRecord, error) {
	return chroot.RootRecord{Path: spec.Path, Device: spec.Device}, nil
}

// Killed builds an image that replaces others of its name, until the build is killed. It
// returns the journal, which was in a directory, as it was then. The build's resources stay.
func Killed(t *testing.T, cloud bake.Cloud, stateDir, name string, at Moment) (journal string) {
	t.Helper()
	k := killer{Cloud: cloud, t: t, stateDir: stateDir, journal: &journal}
	_, err := bake.Build(t.Context(), k, killable{Machine()}, bake.Plan{
		Build: "build-1", ImageName: name, Replace: true, DeleteReplaced: true, Waits: ShortWaits(),
		StateDir: k.stateDir, Program: "test-chroot",
		Provision: func(context.Context, bake.Workplace) error {
			if at == Provisioning {
				k.kill()
				return errKilled
			}
			return nil
		},
		KeepOnError: func(error) bool { return true },
	}, Log(t.Logf))
	if !errors.Is(err, errKilled) || journal == "" {
		t.Fatalf("the build was not killed: %v", err)
	}
	return journal
}

// Reaped cleans up after a killed build by a recorded journal of the same build, whose ids
// are replaced by those of the killed one, and which is written to the same directory.
func Reaped(t *testing.T, cloud bake.Cloud, stateDir, recorded, killed string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(stateDir, "build-1.journal"), []byte(translate(t, recorded, killed)), 0o600); err != nil {
		t.Fatal(err)
	}
	all, err := bake.Reap(t.Context(), cloud, killable{Machine()}, Log(t.Logf), bake.Reaping{StateDir: stateDir, Program: "test-chroot", Waits: ShortWaits()})
	if err != nil || len(all) != 1 || all[0].Fate != bake.Removed {
		t.Errorf("reaped %+v, %v", all, err)
	}
}

var (
	// anID matches what differs between two runs of a build: ids of resources and of clouds.
	anID = regexp.MustCompile(`\b(?:vol|snap|ami|i)-[0-9a-f]{8,17}\b|"cloud":"[^"]*"|"endpoint":"[^"]*"|"boot":"[^"]*"|at [0-9]+`)
	data = regexp.MustCompile(`"data":"([A-Za-z0-9+/=]+)"`)
)

// translate replaces the ids in a journal by those of another one, in the order in which
// they first appear.
func translate(t *testing.T, journal, other string) string {
	t.Helper()
	from, to := ids(journal), ids(other)
	if len(from) != len(to) {
		t.Fatalf("the recorded journal has the ids %q, and the new one %q", from, to)
	}
	return each(journal, func(text string) string {
		return anID.ReplaceAllStringFunc(text, func(id string) string { return to[slices.Index(from, id)] })
	})
}

// ids lists the ids in a journal.
func ids(journal string) (all []string) {
	each(journal, func(text string) string {
		for _, id := range anID.FindAllString(text, -1) {
			if !slices.Contains(all, id) {
				all = append(all, id)
			}
		}
		return text
	})
	return all
}

// each changes the text of every line of a journal, and that of the data in it.
func each(journal string, change func(string) string) string {
	var changed strings.Builder
	for line := range strings.Lines(journal) {
		_, text, _ := strings.Cut(strings.TrimSuffix(line, "\n"), " ")
		text = data.ReplaceAllStringFunc(text, func(found string) string {
			raw, _ := base64.StdEncoding.DecodeString(data.FindStringSubmatch(found)[1])
			return fmt.Sprintf(`"data":%q`, base64.StdEncoding.EncodeToString([]byte(change(string(raw)))))
		})
		text = change(text)
		fmt.Fprintf(&changed, "%08x %s\n", crc32.Checksum([]byte(text), crc32.MakeTable(crc32.Castagnoli)), text)
	}
	return changed.String()
}
