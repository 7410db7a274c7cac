package amazon

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/packer-chroot/packer-plugin-chroot/bake"
	"github.com/packer-chroot/packer-plugin-chroot/lazydisk/block"
	"github.com/packer-chroot/packer-plugin-chroot/loopcloud/fault"
	"github.com/packer-chroot/packer-plugin-chroot/loopcloud/state"
)

// policyUnder returns the actions that the page of policies allows under a heading.
func policyUnder(t *testing.T, heading string) []string {
	t.Helper()
	page, err := os.ReadFile("../docs/iam-policy.md")
	if err != nil {
		t.Fatal(err)
	}
	_, section, _ := strings.Cut(string(page), "\n## "+heading+"\n")
	text := regexp.MustCompile("(?s)```json\n(.*?)```").FindStringSubmatch(section)
	if text == nil {
		t.Fatalf("there is no policy under %q", heading)
	}
	var policy struct{ Statement []struct{ Action []string } }
	if err := json.Unmarshal([]byte(text[1]), &policy); err != nil {
		t.Fatal(err)
	}
	var all []string
	for _, s := range policy.Statement {
		all = append(all, s.Action...)
	}
	slices.Sort(all)
	return slices.Compact(all)
}

// called returns the permissions that the recorded calls need.
func (w *directCloud) called() []string {
	w.Helper()
	r := httptest.NewRequest(http.MethodGet, "/_loopcloud/calls", nil)
	r.RemoteAddr, r.Host = "127.0.0.1:1234", "127.0.0.1:4600"
	token, _ := w.Token()
	r.Header.Set("Authorization", "Bearer "+token)
	rec := httptest.NewRecorder()
	w.ServeHTTP(rec, r)
	var calls []fault.Call
	if err := json.Unmarshal(rec.Body.Bytes(), &calls); err != nil {
		w.Fatal(err)
	}
	tagging := []string{"StartSnapshot", "CopyImage", "RegisterImage"}
	var all []string
	for _, c := range calls {
		all = append(all, c.Dialect+":"+c.Action)
		if slices.Contains(tagging, c.Action) {
			all = append(all, "ec2:CreateTags")
		}
	}
	slices.Sort(all)
	return slices.Compact(all)
}

// TestPolicyOfDirectBuilds makes all calls of direct builds: of a public source that is copied, of one
// that boots by UEFI, and of one that fails. The page allows these calls and no others.
func TestPolicyOfDirectBuilds(t *testing.T) {
	w := newDirectCloud(t)
	public := w.source(theirs, "", sourceBlocks)
	w.share(public, state.Permissions{Public: true})
	w.control(http.MethodDelete, "calls", "")
	ctx, c := t.Context(), w.cloud(func(c *Config) { c.SourceAMI = public.ID })
	facts, p := w.facts(c)
	basis, err := c.Basis(ctx, facts, p)
	if err != nil || basis.Copy == nil {
		t.Fatalf("%+v, %v", basis, err)
	}
	copied := w.copy(c, "copy", public, basis.Copy)
	found, err := c.Image(ctx, copied)
	if err != nil {
		t.Fatal(err)
	}
	basis.Read, basis.Parent = found.Root.Snapshot, found.Root.Snapshot
	id, err := c.Start(ctx, bake.StartSpec{Build: "build", SizeGiB: 1, Parent: basis.Parent})
	if err != nil {
		t.Fatal(err)
	}
	source, _, err := c.Blocks(ctx, basis.Read)
	if err != nil {
		t.Fatal(err)
	}
	_, _, listed := source.List(ctx, 0)
	_, fetched := source.Fetch(ctx, 0, make([]byte, block.Size))
	_, uploaded := c.Upload(ctx, bake.UploadSpec{Snapshot: id, Basis: basis, Changes: changes(map[int64]byte{1: 'B'}, sourceBlocks)})
	_, read := c.Snapshot(ctx, id)
	img, registered := c.Register(ctx, bake.ImageSpec{Name: "new", Snapshot: id, Source: facts.Source, SizeGiB: 1, VolumeType: "gp3", Details: p.Details})
	if err := firstOf(listed, fetched, uploaded, read, registered, c.Unmark(ctx, id)); err != nil {
		t.Fatal(err)
	}
	_, started := c.FindStarted(ctx, "build")
	_, named := c.Named(ctx, "new")
	if err := firstOf(started, named, c.Deregister(ctx, img), c.DeleteSnapshot(ctx, id)); err != nil {
		t.Fatal(err)
	}
	own := w.source(account, "", sourceBlocks)
	secure, err := w.Cloud().CreateImage(account, state.ImageRequest{
		Name: "secure", IDDigits: 17, Mappings: own.Mappings,
		Attributes: state.ImageAttributes{Architecture: string(hostArchitecture()), Virtualization: "hvm", RootDevice: "/dev/xvda", BootMode: "uefi", UEFIData: "QU1aTlVFRkk="},
	})
	if err != nil {
		t.Fatal(err)
	}
	for range 2 { // a call is recorded before the next one of the same client
		w.facts(w.cloud(func(c *Config) { c.SourceAMI = secure.ID }))
	}
	if got, want := w.called(), policyUnder(t, "Building without an instance"); !slices.Equal(got, want) {
		t.Errorf("the calls are\n%v, and the page allows\n%v", got, want)
	}
}
