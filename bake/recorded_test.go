package bake_test

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/packer-chroot/packer-plugin-chroot/bake"
)

// everyKind has a build do acts of every kind: it copies a locked source with a further
// device, replaces images in two regions, and makes a protected copy.
func everyKind(w *fake, p *bake.Plan) {
	variants["everywhere"](w, p)
	w.source.Locked = true
	w.publication.Guarded = true
}

// recordings are points of a build of everyKind. The journals in testdata/journals were
// recorded there, by the code before acts were types.
var recordings = map[string]killPoint{
	"provisioning":      {act: "provision#1", keeper: true},
	"attaching":         {act: "attach#1"},
	"publishing":        {act: "there: publish#1"},
	"deleting_replaced": {act: "there: ~snapshot#1"},
}

// TestRecordedJournals reaps builds by journals that an older version has written.
func TestRecordedJournals(t *testing.T) {
	for _, name := range slices.Sorted(maps.Keys(recordings)) {
		t.Run(name, func(t *testing.T) {
			in(t, func(t *testing.T, w *fake) {
				dir := w.killed(everyKind, recordings[name])
				file := filepath.Join("testdata", "journals", name+".journal")
				text, err := os.ReadFile(file)
				if err != nil {
					t.Fatal(err)
				}
				paths, err := filepath.Glob(filepath.Join(dir, "*.journal"))
				if err != nil || len(paths) != 1 {
					t.Fatalf("journals of the killed build: %q, %v", paths, err)
				}
				if err := os.WriteFile(paths[0], text, 0o600); err != nil {
					t.Fatal(err)
				}
				w.cleaned(dir)
			})
		})
	}
}

// TestRecordedJournalsHaveEveryKind checks that the recordings hold each kind of act.
func TestRecordedJournalsHaveEveryKind(t *testing.T) {
	var all strings.Builder
	for name := range recordings {
		text, err := os.ReadFile(filepath.Join("testdata", "journals", name+".journal"))
		if err != nil {
			t.Fatal(err)
		}
		all.Write(text)
	}
	for _, kind := range []string{
		"volume", "reservation", "attachment", "mount", "snapshot", "image", "copy", "further snapshot", "replaced", "old snapshot",
	} {
		if !strings.Contains(all.String(), fmt.Sprintf(`"kind":%q`, kind)) {
			t.Errorf("no recording has an act of the kind %q", kind)
		}
	}
}
