package bake_test

import (
	"fmt"
	"hash/crc32"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/packer-chroot/packer-plugin-chroot/bake"
)

// addForeign creates resources that belong to no build. They resemble the build's as closely as
// possible and are created at the same time.
func (w *fake) addForeign() {
	now := time.Now()
	w.volumes["vol-theirs"] = &fakeVolume{size: 8, from: "snap-source", zone: "here-a", born: now, attach: bake.Detached}
	w.volumes["vol-other"] = &fakeVolume{build: "build-9", size: 8, from: "snap-source", zone: "here-a", born: now, attach: bake.Detached}
	for id, volume := range map[bake.SnapshotID]bake.VolumeID{"snap-source": "", "snap-theirs": "vol-theirs", "snap-lone": "vol-theirs"} {
		w.snapshots[id] = &fakeSnapshot{region: home, volume: volume, born: now.Add(-time.Minute), description: "made from ami-source"}
	}
	w.snapshots["snap-abroad"] = &fakeSnapshot{region: "there", born: now.Add(-time.Minute)}
	for id, i := range map[bake.ImageID]*fakeImage{
		"ami-source": {region: home, name: "base", snapshots: []bake.SnapshotID{"snap-source"}},
		"ami-theirs": {region: home, name: "theirs", snapshots: []bake.SnapshotID{"snap-theirs"}},
		"ami-abroad": {region: "there", name: "base", snapshots: []bake.SnapshotID{"snap-abroad"}},
	} {
		i.born = now.Add(-time.Minute)
		w.images[id] = i
	}
}

// describe describes all resources that match a condition.
func (w *fake) describe(is func(id string) bool) map[string]string {
	w.mu.Lock()
	defer w.mu.Unlock()
	all := map[string]string{}
	for id, v := range w.volumes {
		all[string(id)] = fmt.Sprintf("%+v", *v)
	}
	for id, s := range w.snapshots {
		all[string(id)] = fmt.Sprintf("%+v", *s)
	}
	for id, i := range w.images {
		all[string(id)] = fmt.Sprintf("%+v", *i)
	}
	maps.DeleteFunc(all, func(id, _ string) bool { return !is(id) })
	return all
}

// TestForeignIDInResponse makes each creating call return the id of an existing resource that does
// not belong to the build. The build reports it and fails, and removes only its own resources.
func TestForeignIDInResponse(t *testing.T) {
	for call, test := range map[string]struct {
		variant string
		ids     []string
	}{
		"volume":   {"replaced", []string{"vol-theirs", "vol-other"}},
		"snapshot": {"replaced", []string{"snap-source", "snap-theirs", "snap-lone", "snap-old"}},
		"image":    {"replaced", []string{"ami-source", "ami-theirs", "ami-other"}},
		"copy":     {"everywhere", []string{"ami-abroad", "ami-theirs", "ami-old"}},
		"restore":  {"replaced", []string{"ami-source", "ami-theirs"}},
	} {
		for _, id := range test.ids {
			t.Run(call+" "+id, func(t *testing.T) {
				in(t, func(t *testing.T, w *fake) {
					plan := w.plan()
					w.addForeign()
					variants[test.variant](w, &plan)
					w.before = w.left()
					before := w.describe(w.foreign)
					w.wrongIDs = map[string]string{call: id}
					if call == "restore" {
						w.faults["image#1"] = fault{err: errInjected}
					}
					_, err := w.build(t.Context(), plan)
					if err == nil || !strings.Contains(err.Error(), id) {
						t.Errorf("%s is not told of: %v", id, err)
					}
					if diff := cmp.Diff(before, w.describe(w.foreign)); diff != "" {
						t.Errorf("others' resources (-before +after):\n%s\nafter %q", diff, w.events)
					}
					for _, left := range w.left() {
						if !w.existed(left) && call != "restore" {
							t.Errorf("%s is left: %v", left, err)
						}
					}
					if slices.ContainsFunc(w.tagged, w.existed) {
						t.Errorf("tagged: %v", w.tagged)
					}
				})
			})
		}
	}
}

// killedBeside returns the journal of a build that was killed beside foreign resources,
// empty if the build was not killed.
func (w *fake) killedBeside(wanted string, d killPoint) (dir string) {
	w.addForeign()
	w.theirs = map[string]string{"/mnt/theirs": "/dev/xvdz1"}
	dir = stateDir(w.t)
	plan := w.journaledPlan(dir)
	variants[wanted](w, &plan)
	w.before = w.left()
	journals := w.kill(d, dir)
	_, _ = w.build(w.t.Context(), plan)
	return journals()
}

// foreign reports whether a resource existed before and is not replaced by the build. An
// image that is registered again is the build's, under any ID.
func (w *fake) foreign(id string) bool { return slices.Contains(w.before, id) && !w.removed[id] }

// edit rewrites the records of all journals of a directory, with valid checksums.
func edit(t *testing.T, dir string, change func(line string) string) {
	t.Helper()
	paths, err := filepath.Glob(filepath.Join(dir, "*.journal"))
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range paths {
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		var out []byte
		for line := range strings.Lines(string(text)) {
			line = change(strings.TrimSuffix(line[9:], "\n"))
			out = fmt.Appendf(out, "%08x %s\n", crc32.Checksum([]byte(line), crc32.MakeTable(crc32.Castagnoli)), line)
		}
		if err := os.WriteFile(path, out, 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

// reapAndCompare reaps, and compares the foreign resources before and after.
func (w *fake) reapAndCompare(dir string) []bake.Remains {
	w.t.Helper()
	before := w.describe(w.foreign)
	all, err := bake.Reap(w.t.Context(), w, machine{w}, w, reaping(dir))
	if err != nil {
		w.t.Error(err)
	}
	if diff := cmp.Diff(before, w.describe(w.foreign)); diff != "" || w.t.Failed() {
		w.t.Errorf("others' resources (-before +after):\n%s\nafter %q\n%+v", diff, w.events, all)
	}
	return all
}

// TestForgedJournals reaps journals with valid checksums that name resources which no build has
// created.
func TestForgedJournals(t *testing.T) {
	const mount = `"root":{"path":"/mnt/theirs","device":"/dev/xvdz1","boot":"first","keeper":1,"since":1}`
	for name, forged := range map[string]struct{ act, says string }{
		"the source image":             {`{"kind":"image","answered":true,"snapshot":"snap-source","image":"ami-source"}`, "snap-source"},
		"another image":                {`{"kind":"image","answered":true,"snapshot":"snap-theirs","image":"ami-theirs"}`, "snap-theirs"},
		"the images of a snapshot":     {`{"kind":"image","snapshot":"snap-theirs"}`, "snap-theirs"},
		"a snapshot of another volume": {`{"kind":"snapshot","answered":true,"volume":"vol-theirs","snapshot":"snap-lone"}`, "vol-theirs"},
		"the snapshots of a volume":    {`{"kind":"snapshot","volume":"vol-theirs"}`, "vol-theirs"},
		"a snapshot of no own volume":  {`{"kind":"snapshot","answered":true,"volume":"vol-1","snapshot":"snap-lone"}`, "snap-lone"},
		"another volume":               {`{"kind":"volume","answered":true,"build":"build-1","volume":"vol-theirs"}`, "vol-theirs"},
		"an attachment of another":     {`{"kind":"attachment","answered":true,"volume":"vol-theirs","host":"i-1"}`, "vol-theirs"},
		"another image as a copy":      {`{"kind":"copy","answered":true,"region":"here","source":"ami-1","name":"theirs","image":"ami-theirs"}`, "ami-theirs"},
		"copies of another image":      {`{"kind":"copy","region":"there","source":"ami-source","name":"base"}`, ""},
		"snapshots of no copy":         {`{"kind":"copy","answered":true,"region":"here","source":"ami-1","name":"x","image":"ami-none","snapshots":["snap-lone"]}`, "snap-lone"},
		"a further snapshot":           {`{"kind":"further snapshot","answered":true,"region":"here","image":"ami-none","snapshot":"snap-lone"}`, "snap-lone"},
		"an old snapshot":              {`{"kind":"old snapshot","answered":true,"region":"here","image":"ami-none","snapshot":"snap-lone"}`, "snap-lone"},
		"another file system":          {`{"kind":"mount","answered":true,"volume":"vol-1","host":"i-1","node":"/dev/xvdz1","path":"/mnt/theirs",` + mount + `}`, "/mnt/theirs"},
		"a file system of no volume":   {`{"kind":"mount","answered":true,"volume":"vol-none","host":"i-1","node":"/dev/xvdz1","path":"/mnt/theirs",` + mount + `}`, "/mnt/theirs"},
		"another lock directory":       {`{"kind":"reservation","lock_dir":"/srv"}`, "/srv"},
		"an image that stands":         {`{"kind":"replaced","answered":true,"region":"here","image":"ami-theirs","record":{"image":"ami-theirs","name":"theirs","snapshots":["snap-theirs"],"data":"e30="}}`, ""},
	} {
		for _, stack := range []string{"scaffold", "products", "snapshots of replaced images"} {
			if name == "an old snapshot" && stack == "products" {
				continue
			}
			t.Run(name+" in "+stack, func(t *testing.T) {
				in(t, func(t *testing.T, w *fake) {
					dir := w.killedBeside("plain", killPoint{act: "provision#1", keeper: true})
					last := 0
					edit(t, dir, func(line string) string {
						last += strings.Count(line, `"verb":"armed"`)
						return line
					})
					paths, _ := filepath.Glob(filepath.Join(dir, "*"))
					add(t, paths[0], `{"verb":"kept","stacks":["none","products"]}`)
					add(t, paths[0], fmt.Sprintf(`{"verb":"armed","seq":%d,"stack":"%s","act":%s}`, last+1, stack, forged.act))
					all := w.reapAndCompare(dir)
					if told := strings.Join(append(w.reports, fmt.Sprintf("%+v", all)), "\n"); !strings.Contains(told, forged.says) {
						t.Errorf("nobody is told of %q:\n%s", forged.says, told)
					}
				})
			})
		}
	}
}

// add adds a line to a journal.
func add(t *testing.T, path, line string) {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	text = fmt.Appendf(text, "%08x %s\n", crc32.Checksum([]byte(line), crc32.MakeTable(crc32.Castagnoli)), line)
	if err := os.WriteFile(path, text, 0o600); err != nil {
		t.Fatal(err)
	}
}

// anID matches IDs in a journal.
var anID = regexp.MustCompile(`"(vol|snap|ami)-[a-z0-9-]+"`)

// TestWrongJournals replaces IDs in the journals of killed builds by those of existing
// resources, at random. SEED repeats the choices.
func TestWrongJournals(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	if text := os.Getenv("SEED"); text != "" {
		var err error
		if seed, err = strconv.ParseUint(text, 10, 64); err != nil {
			t.Fatal(err)
		}
	}
	chance := rand.New(rand.NewPCG(seed, 0))
	points := map[string][]killPoint{}
	names := slices.Sorted(maps.Keys(variants))
	for _, name := range names {
		points[name] = killPoints(acts(t, variants[name]))
	}
	for n := range 200 {
		name := names[chance.IntN(len(names))]
		d := points[name][chance.IntN(len(points[name]))]
		ok := t.Run(fmt.Sprintf("%d %s %v", n, name, d), func(t *testing.T) {
			in(t, func(_ *testing.T, w *fake) {
				dir := w.killedBeside(name, d)
				if dir == "" {
					return
				}
				ids := slices.Sorted(maps.Keys(w.describe(w.foreign)))
				for range 1 + chance.IntN(3) {
					w.corruptIDs(dir, ids, chance)
				}
				w.reapAndCompare(dir)
			})
		})
		if !ok {
			t.Fatalf("SEED=%d", seed)
		}
	}
}

// corruptIDs replaces an id in journals by another of its kind: in one place, in every
// place, or in one act.
func (w *fake) corruptIDs(dir string, ids []string, chance *rand.Rand) {
	var places []string
	edit(w.t, dir, func(line string) string {
		places = append(places, anID.FindAllString(line, -1)...)
		return line
	})
	if len(places) == 0 {
		return
	}
	wrong := places[chance.IntN(len(places))]
	kind, _, _ := strings.Cut(wrong[1:], "-")
	like := slices.DeleteFunc(slices.Clone(ids), func(id string) bool { return !strings.HasPrefix(id, kind+"-") })
	if len(like) == 0 {
		return
	}
	with := `"` + like[chance.IntN(len(like))] + `"`
	always, share := chance.IntN(2) == 0, chance.Float64()
	edit(w.t, dir, func(line string) string {
		return anID.ReplaceAllStringFunc(line, func(id string) string {
			if id == wrong && (always || chance.Float64() < share) {
				return with
			}
			return id
		})
	})
}
