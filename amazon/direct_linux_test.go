package amazon

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/packer-chroot/packer-plugin-chroot/amazon/ebsdirect"
	"github.com/packer-chroot/packer-plugin-chroot/bake"
	"github.com/packer-chroot/packer-plugin-chroot/builder"
	"github.com/packer-chroot/packer-plugin-chroot/event"
	"github.com/packer-chroot/packer-plugin-chroot/lazydisk"
	"github.com/packer-chroot/packer-plugin-chroot/lazydisk/block"
	"github.com/packer-chroot/packer-plugin-chroot/lazydisk/cow"
	"github.com/packer-chroot/packer-plugin-chroot/loopcloud"
	"github.com/packer-chroot/packer-plugin-chroot/loopcloud/state"
	"github.com/packer-chroot/packer-plugin-chroot/testdir"
)

// theirs is another account, in the region of the tests.
var theirs = state.Caller{Account: "222222222222", Region: account.Region}

// directCloud is a loopcloud with real blocks, without a metadata service.
type directCloud struct {
	*loopcloud.Server
	*testing.T
	url string
	n   int
}

func newDirectCloud(t *testing.T) *directCloud {
	t.Helper()
	alone(t)
	s, err := loopcloud.New(loopcloud.Options{Dir: testdir.New(t), Region: account.Region, Keys: []state.Key{
		{ID: "AKIATEST", Secret: "not-to-be-printed"}, {ID: "AKIATHEIRS", Secret: "not-to-be-printed", Account: theirs.Account},
	}})
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(s)
	t.Cleanup(func() {
		server.Close()
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	t.Setenv("AWS_ENDPOINT_URL", server.URL)
	return &directCloud{Server: s, T: t, url: server.URL}
}

// control makes a request to the control API.
func (w *directCloud) control(method, path, body string) {
	w.Helper()
	r := httptest.NewRequest(method, "/_loopcloud/"+path, strings.NewReader(body))
	r.RemoteAddr, r.Host = "127.0.0.1:1234", "127.0.0.1:4600"
	token, _ := w.Token()
	r.Header.Set("Authorization", "Bearer "+token)
	rec := httptest.NewRecorder()
	w.ServeHTTP(rec, r)
	if rec.Code >= http.StatusMultipleChoices {
		w.Fatalf("%s %s: %s", method, path, rec.Body)
	}
}

// fault replaces the fault rules.
func (w *directCloud) fault(rules ...string) {
	w.Helper()
	w.control(http.MethodDelete, "faults", "")
	for _, rule := range rules {
		w.control(http.MethodPost, "faults", rule)
	}
}

// cloud returns the Cloud of a direct build.
func (w *directCloud) cloud(change func(*Config)) *Cloud {
	w.Helper()
	c := Config{DirectConfig: DirectConfig{EBSDirect: true}}
	if change != nil {
		change(&c)
	}
	client := dial(w.T, access(""))
	client.direct = true
	return NewCloud(client, &c, w.Logf)
}

// blocksOf returns the client of an account for the EBS direct APIs.
func (w *directCloud) blocksOf(of state.Caller) *ebsdirect.Client {
	w.Helper()
	a := access("")
	if of == theirs {
		a.AccessKey = "AKIATHEIRS"
	}
	return dial(w.T, a).blockClient()
}

// filled returns a block that is filled with a byte.
func filled(b byte) []byte { return bytes.Repeat([]byte{b}, block.Size) }

// source creates an image of an account whose root snapshot has these blocks.
func (w *directCloud) source(of state.Caller, key string, blocks map[int64]byte) state.Image {
	w.Helper()
	w.n++
	ctx, c := w.Context(), w.blocksOf(of)
	started, err := c.Start(ctx, ebsdirect.Spec{Token: fmt.Sprint("source-", w.n), SizeGiB: 1, Encrypted: key != "", KeyARN: strings.TrimPrefix(key, "default")})
	if err != nil {
		w.Fatal(err)
	}
	started.Encrypted = true // writes zeros too
	u := c.Upload(ebsdirect.Target{Started: started})
	for index, b := range blocks {
		if err := u.Write(ctx, ebsdirect.Block{Index: index, Data: filled(b), Sum: sha256.Sum256(filled(b)), Zero: b == 0}); err != nil {
			w.Fatal(err)
		}
	}
	if err := u.Complete(ctx); err != nil {
		w.Fatal(err)
	}
	img, err := w.Cloud().CreateImage(of, state.ImageRequest{
		Name: fmt.Sprint("source ", w.n), IDDigits: 17,
		Attributes: state.ImageAttributes{Architecture: string(hostArchitecture()), Virtualization: "hvm", RootDevice: "/dev/xvda"},
		Mappings:   []state.Mapping{{Device: "/dev/xvda", Volume: &state.MappedVolume{SnapshotID: started.ID, SizeGiB: 1, Type: "gp3"}}},
	})
	if err != nil {
		w.Fatal(err)
	}
	return img
}

// rootOf returns the root snapshot of an image.
func rootOf(img state.Image) string { return img.Mappings[0].Volume.SnapshotID }

// share shares an image of the other account, and its root snapshot.
func (w *directCloud) share(img state.Image, with state.Permissions) {
	w.Helper()
	_, err := w.Cloud().ShareSnapshot(theirs, rootOf(img), state.PermissionChange{Add: with}, false)
	if err == nil {
		_, err = w.Cloud().ShareImage(theirs, img.ID, state.PermissionChange{Add: with}, false)
	}
	if err != nil {
		w.Fatal(err)
	}
}

// facts returns the place and the source of a build, and its publication.
func (w *directCloud) facts(c *Cloud) (bake.Facts, bake.Publication) {
	w.Helper()
	ctx := w.Context()
	place, err := c.Place(ctx)
	if err != nil {
		w.Fatal(err)
	}
	facts := bake.Facts{Host: place}
	if !c.config.FromScratch {
		found, err := c.Source(ctx)
		if err != nil {
			w.Fatal(err)
		}
		facts.Source = &found
	}
	p, err := c.Publication(ctx, facts)
	if err != nil {
		w.Fatal(err)
	}
	return facts, p
}

// basis returns the basis of a build.
func (w *directCloud) basis(c *Cloud) (bake.Basis, error) {
	w.Helper()
	facts, p := w.facts(c)
	return c.Basis(w.Context(), facts, p)
}

// changes returns changed blocks as the block server does: those that are equal to the source's are not
// passed. present reports which blocks the source has.
func changes(blocks map[int64]byte, present map[int64]byte) func(context.Context, int, func(context.Context, lazydisk.Change) error) (lazydisk.Summary, error) {
	return func(ctx context.Context, _ int, call func(context.Context, lazydisk.Change) error) (sum lazydisk.Summary, err error) {
		for index, b := range blocks {
			was, inParent := present[index]
			sum.Written++
			if inParent && was == b {
				sum.Equal++
				continue
			}
			data := filled(b)
			err := call(ctx, lazydisk.Change{Data: data, Change: cow.Change{Index: index, Sum: sha256.Sum256(data), Zero: b == 0, InParent: inParent}})
			if err != nil {
				return sum, err
			}
		}
		return sum, nil
	}
}

// content returns the first byte of each block of a snapshot of the account.
func (w *directCloud) content(id bake.SnapshotID) map[int64]byte {
	w.Helper()
	s := w.blocksOf(account).Source(string(id))
	present, next, err := s.List(w.Context(), 0)
	if err != nil || next != -1 {
		w.Fatalf("next %d, %v", next, err)
	}
	all, data := map[int64]byte{}, make([]byte, block.Size)
	for _, r := range present {
		for index := r.First; index < r.First+r.Count; index++ {
			if _, err := s.Fetch(w.Context(), index, data); err != nil || !bytes.Equal(data, filled(data[0])) {
				w.Fatalf("block %d: %v", index, err)
			}
			all[index] = data[0]
		}
	}
	return all
}

// described returns a snapshot of the account.
func (w *directCloud) described(id bake.SnapshotID) state.Snapshot {
	w.Helper()
	for _, s := range w.Cloud().Snapshots(account) {
		if s.ID == string(id) {
			return s
		}
	}
	w.Fatalf("%s does not exist", id)
	return state.Snapshot{}
}

// elsewhere makes this host appear to be outside of EC2.
func elsewhere(t *testing.T) {
	t.Helper()
	old := hostFiles
	hostFiles = nil
	t.Cleanup(func() { hostFiles = old })
}

// sourceBlocks are the blocks of sources, by their bytes.
var sourceBlocks = map[int64]byte{0: 'a', 1: 'b', 2: 'c', 3: 0}

// TestDirectBuild makes the calls of a direct build, without an instance, in different cases.
func TestDirectBuild(t *testing.T) {
	w := newDirectCloud(t)
	shared := w.source(theirs, "", sourceBlocks)
	w.share(shared, state.Permissions{Accounts: []string{account.Account}})
	own := w.source(account, "", sourceBlocks)
	sealed := w.source(account, "default", sourceBlocks)
	elsewhere(t)
	changed := map[int64]byte{0: 'a', 1: 'B', 2: 0, 7: 0, 9: 'n'}
	for name, test := range map[string]struct {
		change    func(*Config)
		encrypted bool
		blocks    int64
		want      map[int64]byte
	}{
		"of the account": {func(c *Config) { c.SourceAMI = own.ID }, false, 3, map[int64]byte{0: 'a', 1: 'B', 2: 0, 3: 0, 9: 'n'}},
		"encrypted":      {func(c *Config) { c.SourceAMI = sealed.ID }, true, 4, map[int64]byte{0: 'a', 1: 'B', 2: 0, 3: 0, 7: 0, 9: 'n'}},
		"shared":         {func(c *Config) { c.SourceAMI = shared.ID }, false, 3, map[int64]byte{0: 'a', 1: 'B', 9: 'n'}},
		"shared and then encrypted": {func(c *Config) { c.SourceAMI, c.RootVolumeKMSKeyID = shared.ID, "alias/images" }, true, 6,
			map[int64]byte{0: 'a', 1: 'B', 2: 0, 3: 0, 7: 0, 9: 'n'}},
		"from scratch": {func(c *Config) {
			c.FromScratch, c.RootDeviceName, c.AMIVirtualizationType = true, "/dev/xvda", "hvm"
		}, false, 3, map[int64]byte{0: 'a', 1: 'B', 9: 'n'}},
	} {
		t.Run(name, func(t *testing.T) {
			ctx, c := t.Context(), w.cloud(test.change)
			facts, p := w.facts(c)
			basis, err := c.Basis(ctx, facts, p)
			if err != nil || basis.Copy != nil {
				t.Fatalf("%+v, %v", basis, err)
			}
			spec := bake.StartSpec{
				Build: bake.BuildID("build of " + name), SizeGiB: 2, Parent: basis.Parent, Encryption: basis.Encryption,
				Description: "new", Tags: map[string]string{"a": "b"},
			}
			id, err := c.Start(ctx, spec)
			again, errAgain := c.Start(ctx, spec)
			found, errFound := c.FindStarted(ctx, spec.Build)
			if err != nil || errAgain != nil || errFound != nil || again != id || len(found) != 1 || found[0] != id {
				t.Fatalf("started %s, %v; again %s, %v; found %s, %v", id, err, again, errAgain, found, errFound)
			}
			if s, err := c.Snapshot(ctx, id); err != nil || s.State != bake.SnapshotPending || s.Build != spec.Build || s.Volume != "" || s.Description != "new" {
				t.Errorf("the started snapshot is %+v, %v", s, err)
			}
			present := sourceBlocks
			if facts.Source == nil {
				present = nil
			}
			up, err := c.Upload(ctx, bake.UploadSpec{Snapshot: id, Basis: basis, Changes: changes(changed, present)})
			if err != nil || up.Blocks != test.blocks || up.Written != int64(len(changed)) {
				t.Errorf("uploaded %+v, %v", up, err)
			}
			if s := w.described(id); s.State != state.SnapshotCompleted || s.Encrypted != test.encrypted || s.SizeGiB != 2 {
				t.Errorf("the snapshot is %+v", s)
			}
			if got := w.content(id); !maps.Equal(got, test.want) {
				t.Errorf("the content is %v, not %v", got, test.want)
			}
			img, err := c.Register(ctx, bake.ImageSpec{Name: name, Snapshot: id, Source: facts.Source, SizeGiB: 2, VolumeType: "gp3", Details: p.Details})
			if err := firstOf(err, c.Unmark(ctx, id), c.Unmark(ctx, id), c.Unmark(ctx, "snap-00000000000000bad")); err != nil || img == "" {
				t.Error(err)
			}
			if s := w.described(id); !maps.Equal(s.Tags, spec.Tags) {
				t.Errorf("the tags are %v", s.Tags)
			}
		})
	}
}

// firstOf returns the first error.
func firstOf(errs ...error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

// TestDirectBuildFaults: transient faults of each call do not fail a build. The real kinds of errors
// decide.
func TestDirectBuildFaults(t *testing.T) {
	w := newDirectCloud(t)
	shared := w.source(theirs, "", sourceBlocks)
	w.share(shared, state.Permissions{Accounts: []string{account.Account}})
	want := map[int64]byte{0: 'a', 1: 'B', 2: 'c'}
	rules := []string{
		`{"action":"StartSnapshot","times":1,"stale":{"changes":3}}`,
		`{"action":"PutSnapshotBlock","times":1,"status":403,"code":"InvalidSignatureException","message":"the checksum"}`,
		`{"action":"GetSnapshotBlock","times":2,"body":"corrupt"}`,
	}
	for _, action := range []string{"GetCallerIdentity", "StartSnapshot", "PutSnapshotBlock", "CompleteSnapshot", "ListSnapshotBlocks", "GetSnapshotBlock", "DeleteTags"} {
		for _, effect := range []string{`"times":4,"error":"throttled"`, `"times":2,"error":"internal"`, `"times":2,"error":"unavailable"`, `"times":2,"drop":"before"`, `"times":2,"drop":"after"`, `"times":2,"body":"cut"`} {
			rules = append(rules, fmt.Sprintf(`{"action":%q,%s}`, action, effect))
		}
	}
	for i, rule := range rules {
		t.Run(rule, func(t *testing.T) {
			ctx, c := t.Context(), w.cloud(func(c *Config) { c.SourceAMI = shared.ID })
			w.fault(rule)
			defer w.fault()
			basis, err := w.basis(c)
			if err != nil {
				t.Fatal(err)
			}
			id, err := c.Start(ctx, bake.StartSpec{Build: bake.BuildID(fmt.Sprint("build ", i)), SizeGiB: 1, Encryption: basis.Encryption})
			if err != nil {
				t.Fatal(err)
			}
			_, err = c.Upload(ctx, bake.UploadSpec{Snapshot: id, Basis: basis, Changes: changes(map[int64]byte{1: 'B'}, sourceBlocks)})
			if err := firstOf(err, c.Unmark(ctx, id)); err != nil {
				t.Fatal(err)
			}
			w.fault()
			if got := w.content(id); !maps.Equal(got, want) || w.described(id).State != state.SnapshotCompleted {
				t.Errorf("the content is %v", got)
			}
		})
	}
}

// TestRequestsForBlocksAreCounted: those that succeed are no events of their own.
func TestRequestsForBlocksAreCounted(t *testing.T) {
	w := newDirectCloud(t)
	own := w.source(account, "", sourceBlocks)
	heard := &ear{}
	ctx, c := event.Listen(t.Context(), heard), w.cloud(nil)
	source, _, err := c.Blocks(ctx, bake.SnapshotID(rootOf(own)))
	if err != nil {
		t.Fatal(err)
	}
	for index := range int64(3) {
		if _, err := source.Fetch(ctx, index, make([]byte, block.Size)); err != nil {
			t.Error(err)
		}
	}
	id, err := c.Start(ctx, bake.StartSpec{Build: "build", SizeGiB: 1})
	if err != nil {
		t.Fatal(err)
	}
	w.fault(`{"action":"PutSnapshotBlock","times":1,"error":"internal"}`)
	if _, err := c.Upload(ctx, bake.UploadSpec{Snapshot: id, Changes: changes(map[int64]byte{1: 'a', 2: 'b'}, nil)}); err != nil {
		t.Fatal(err)
	}
	want := []event.Requests{
		{Service: "EBS", Action: "GetSnapshotBlock", Made: 3, Bytes: 3 * block.Size},
		{Service: "EBS", Action: "PutSnapshotBlock", Made: 3, Failed: 1, Bytes: 2 * block.Size},
	}
	if got := c.Requests(); !slices.Equal(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
	for _, call := range heard.calls {
		if ebsdirect.TransfersBlock(call.Action) && call.Err == nil {
			t.Errorf("heard %v", call)
		}
	}
	if n := len(slices.DeleteFunc(heard.calls, func(c event.Call) bool { return c.Action != "PutSnapshotBlock" })); n != 1 {
		t.Errorf("%d failed requests were heard", n)
	}
}

// TestDirectParentIsNotKnownYet: a parent that EC2 shows as complete, and that EBS does not know yet, is an
// unsettled refusal; another one is not.
func TestDirectParentIsNotKnownYet(t *testing.T) {
	w := newDirectCloud(t)
	own := bake.SnapshotID(rootOf(w.source(account, "", sourceBlocks)))
	for fault, unsettled := range map[string]bool{
		`"status":404,"code":"ResourceNotFoundException/SNAPSHOT_NOT_FOUND"`: true,
		`"status":400,"code":"ValidationException/INVALID_SNAPSHOT_ID"`:      true,
		`"status":400,"code":"ValidationException/INVALID_CUSTOMER_KEY"`:     false,
		`"error":"denied"`: false,
	} {
		w.fault(`{"action":"StartSnapshot",` + fault + `}`)
		if _, err := w.cloud(nil).Start(t.Context(), bake.StartSpec{Build: "build", SizeGiB: 1, Parent: own}); err == nil || errors.Is(err, bake.ErrUnsettled) != unsettled {
			t.Errorf("%s: %v", fault, err)
		}
	}
	w.fault()
	_, err := w.cloud(nil).Start(t.Context(), bake.StartSpec{Build: "build", SizeGiB: 1, Parent: "snap-00000000000000bad"})
	if err == nil || errors.Is(err, bake.ErrUnsettled) {
		t.Errorf("a parent that does not exist: %v", err)
	}
}

// TestKeyOfAnAliasIsReadAgain: faults of KMS that pass do not fail a direct build, and a missing permission does at once.
func TestKeyOfAnAliasIsReadAgain(t *testing.T) {
	w := newDirectCloud(t)
	for _, fault := range []string{`"error":"throttled"`, `"error":"internal"`, `"drop":"before"`, `"drop":"after"`, `"body":"cut"`, `"body":"empty"`, `"body":"garbage"`} {
		w.fault(`{"action":"DescribeKey","times":2,` + fault + `}`)
		if arn, err := w.cloud(nil).client.arnOfKey(t.Context(), account.Account, "alias/images"); err != nil || !strings.Contains(arn, ":key/") {
			t.Errorf("%s: %q, %v", fault, arn, err)
		}
	}
	w.fault(`{"action":"DescribeKey","times":1,"error":"denied"}`)
	if _, err := w.cloud(nil).client.arnOfKey(t.Context(), account.Account, "alias/images"); err == nil {
		t.Error("a refusal is repeated")
	}
}

// TestDeletionOfAStartedSnapshotIsLate: while changing calls do not know a started snapshot, or count it as being created,
// its deletion is unsettled.
func TestDeletionOfAStartedSnapshotIsLate(t *testing.T) {
	w := newDirectCloud(t)
	c := w.cloud(nil)
	w.fault(`{"action":"StartSnapshot","stale":{"changes":3}}`)
	id, err := c.Start(t.Context(), bake.StartSpec{Build: "build", SizeGiB: 1})
	if err != nil {
		t.Fatal(err)
	}
	refused := 0
	for err = c.DeleteSnapshot(t.Context(), id); errors.Is(err, bake.ErrUnsettled); err = c.DeleteSnapshot(t.Context(), id) {
		refused++
	}
	if err != nil || refused != 3 {
		t.Errorf("after %d refusals: %v", refused, err)
	}
}

// TestUploadOfAnUnknownStart: a snapshot that another process has started may be encrypted, so blocks
// of zeros are written.
func TestUploadOfAnUnknownStart(t *testing.T) {
	w := newDirectCloud(t)
	id, err := w.cloud(nil).Start(t.Context(), bake.StartSpec{Build: "build", SizeGiB: 1})
	if err != nil {
		t.Fatal(err)
	}
	up, err := w.cloud(nil).Upload(t.Context(), bake.UploadSpec{Snapshot: id, Changes: changes(map[int64]byte{1: 0}, nil)})
	if err != nil || up.Blocks != 1 {
		t.Errorf("uploaded %+v, %v", up, err)
	}
}

// TestUploadWithoutAllChanges: if not all changes can be read, the snapshot is not completed.
func TestUploadWithoutAllChanges(t *testing.T) {
	w := newDirectCloud(t)
	c := w.cloud(nil)
	id, err := c.Start(t.Context(), bake.StartSpec{Build: "build", SizeGiB: 1})
	if err != nil {
		t.Fatal(err)
	}
	lost := fmt.Errorf("the disk has failed")
	_, err = c.Upload(t.Context(), bake.UploadSpec{Snapshot: id, Changes: func(context.Context, int, func(context.Context, lazydisk.Change) error) (lazydisk.Summary, error) {
		return lazydisk.Summary{}, lost
	}})
	says(t, err, lost.Error())
	if s := w.described(id); s.State != state.SnapshotPending {
		t.Errorf("the snapshot is %s", s.State)
	}
}

// TestKeysOfTheBlockCache: the key names the cloud, the region and the snapshot. The blocks of an
// encrypted snapshot have none, unless the user wants that.
func TestKeysOfTheBlockCache(t *testing.T) {
	w := newDirectCloud(t)
	plain, sealed := w.source(account, "", sourceBlocks), w.source(account, "default", sourceBlocks)
	c := w.cloud(nil)
	source, key, err := c.Blocks(t.Context(), bake.SnapshotID(rootOf(plain)))
	if err != nil || source == nil || key != fmt.Sprintf("%s/%s/%s", c.client.cloud.String(), account.Region, rootOf(plain)) || c.client.cloud.String() == "" {
		t.Errorf("the key is %q, %v", key, err)
	}
	if source, key, err = c.Blocks(t.Context(), bake.SnapshotID(rootOf(sealed))); err != nil || source == nil || key != "" {
		t.Errorf("of an encrypted snapshot: %q, %v", key, err)
	}
	c.config.BlockCacheEncrypted = true
	if _, key, err = c.Blocks(t.Context(), bake.SnapshotID(rootOf(sealed))); err != nil || key == "" {
		t.Errorf("of an encrypted snapshot, if wanted: %q, %v", key, err)
	}
	if _, _, err = c.Blocks(t.Context(), "snap-00000000000000bad"); err == nil {
		t.Error("of no snapshot: no error")
	}
}

// TestPlace: the account is known without an instance, and so is the identity of the cloud.
func TestPlace(t *testing.T) {
	w := newDirectCloud(t)
	place, err := w.cloud(nil).Place(t.Context())
	if err != nil || place.Account != account.Account || place.Region != account.Region || place.Cloud == "" || place.ID != "" {
		t.Errorf("the place is %+v, %v", place, err)
	}
	w.fault(`{"action":"GetCallerIdentity","status":403,"code":"InvalidClientTokenId","message":"no"}`)
	a := access(w.url)
	t.Setenv("AWS_ENDPOINT_URL", "")
	t.Setenv("AWS_ENDPOINT_URL_STS", w.url)
	_, err = NewCloud(dial(t, a), &Config{}, nil).Place(t.Context())
	says(t, err, "cannot find out the account of the keys", "check access_key")
	t.Setenv("AWS_ENDPOINT_URL_STS", "")
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	_, err = NewCloud(dial(t, a), &Config{}, nil).Place(ctx)
	says(t, err, "custom_endpoint_ec2 is for EC2 alone", "AWS_ENDPOINT_URL_STS")
}

// TestUndoOfADirectBuildByReap: the command reap, which has no template, undoes a direct build without a
// metadata service, and knows the account.
func TestUndoOfADirectBuildByReap(t *testing.T) {
	w := newDirectCloud(t)
	ctx := t.Context()
	id, err := w.cloud(nil).Start(ctx, bake.StartSpec{Build: "killed", SizeGiB: 1})
	if err != nil {
		t.Fatal(err)
	}
	t.Setenv("AWS_ACCESS_KEY_ID", "AKIATEST")
	t.Setenv("AWS_SECRET_ACCESS_KEY", "not-to-be-printed")
	session, err := Plugin.Connect(ctx, builder.Reach{Region: account.Region})
	if err != nil {
		t.Fatal(err)
	}
	store := session.Cloud.(bake.BlockStore)
	place, placed := store.Place(ctx)
	found, searched := store.FindStarted(ctx, "killed")
	s, read := session.Cloud.Snapshot(ctx, id)
	if err := firstOf(placed, searched, read); err != nil || place.Account != account.Account || len(found) != 1 || found[0] != id || s.Build != "killed" {
		t.Errorf("%+v, %v, %+v: %v", place, found, s, err)
	}
	if err := firstOf(session.Cloud.DeleteSnapshot(ctx, id), session.Cloud.DeleteSnapshot(ctx, id)); err != nil {
		t.Error(err)
	}
	if found, err = store.FindStarted(ctx, "killed"); err != nil || len(found) != 0 {
		t.Errorf("left: %v, %v", found, err)
	}
}
