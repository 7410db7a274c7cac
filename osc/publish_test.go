package osc

import (
	"context"
	"encoding/json"
	"errors"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/packer-chroot/packer-plugin-chroot/bake"
	"github.com/packer-chroot/packer-plugin-chroot/bake/cloudtest"
	"github.com/packer-chroot/packer-plugin-chroot/builder"
	"github.com/packer-chroot/packer-plugin-chroot/loopcloud/state"
)

func TestInOtherRegion(t *testing.T) {
	o := newOutscale(t, state.Instant())
	c := o.cloud(t, Config{})
	if c.In(home) != bake.Cloud(c) {
		t.Error("its own region is another cloud's")
	}
	there := c.In("us-east-2").(*Cloud)
	named, err := there.Named(t.Context(), "source")
	if err != nil || len(named) != 0 || there.client.Region() != "us-east-2" {
		t.Errorf("in another region: %v, %v", named, err)
	}
	if c.client.Region() != home {
		t.Error("the cloud itself has moved")
	}
}

// TestCopy checks that an image that the account may use without its snapshots is copied, and
// that the copy is found by its name after a lost response.
func TestCopy(t *testing.T) {
	for _, fault := range []cloudtest.Fault{"", cloudtest.Lost, cloudtest.Throttled} {
		t.Run(string(fault), func(t *testing.T) {
			o := newOutscale(t, state.Instant())
			shared := o.image(t, theirs, "shared", state.ImageAttributes{})
			everyone := state.PermissionChange{Add: state.Permissions{Public: true}}
			if _, err := o.state.ShareImage(theirs, shared.ID, everyone, false); err != nil {
				t.Fatal(err)
			}
			c := o.cloud(t, Config{})
			spec := bake.CopySpec{
				Build: "b", Source: bake.ImageID(shared.ID), SourceRegion: home, Name: "passing", Description: "a copy",
				ImageTags: map[string]string{"i": "1"}, SnapshotTags: map[string]string{"s": "1"},
			}
			if fault != "" {
				o.wire.Fail(fault)
			}
			id, err := c.Copy(t.Context(), spec)
			if err != nil {
				t.Fatal(err)
			}
			again, err := c.Copy(t.Context(), spec)
			if err != nil || again != id {
				t.Errorf("copied again as %s, %v; want %s", again, err, id)
			}
			found, err := o.cloud(t, Config{}).FindCopies(t.Context(), bake.ImageID(shared.ID), "passing")
			if err != nil || !slices.Equal(found, []bake.ImageID{id}) {
				t.Errorf("found %v, %v", found, err)
			}
			got := o.find(t, string(id))
			if got.Account != me || got.Description != "a copy" || len(got.Tags) > 0 { // tags appear after it was read
				t.Errorf("the copy is %+v", got)
			}
			if s := o.snapshot(t, got.Mappings[0].Volume.SnapshotID); len(s.Tags) > 0 {
				t.Errorf("its snapshot is tagged %v", s.Tags)
			}
		})
	}
}

func TestNoEncryptedCopy(t *testing.T) {
	s := newFake(t, map[string][]reply{})
	if _, err := s.cloud(Config{}).Copy(t.Context(), bake.CopySpec{Source: "ami-12345678", Encrypted: true}); err == nil || !strings.Contains(err.Error(), "does not encrypt") {
		t.Errorf("%v", err)
	}
}

func (o *outscale) snapshot(t *testing.T, id string) state.Snapshot {
	t.Helper()
	for _, s := range o.state.Snapshots(mine) {
		if s.ID == id {
			return s
		}
	}
	t.Fatalf("there is no snapshot %s", id)
	panic("unreachable")
}

// TestPublish checks that image and snapshots are shared by their own options, and that no
// request is sent if nothing is to be shared.
func TestPublish(t *testing.T) {
	tests := map[string]struct {
		options         Config
		image, snapshot state.Permissions
		calls           int
	}{
		"nothing":          {},
		"image":            {Config{PublishConfig: PublishConfig{OMIAccountIDs: []string{other}}}, state.Permissions{Accounts: []string{other}}, state.Permissions{}, 1},
		"image for all":    {Config{PublishConfig: PublishConfig{GlobalPermission: true}}, state.Permissions{Public: true}, state.Permissions{}, 1},
		"snapshot":         {Config{Config: builder.Config{Sharing: builder.Sharing{SnapshotUsers: []string{other}}}}, state.Permissions{}, state.Permissions{Accounts: []string{other}}, 1},
		"snapshot for all": {Config{Config: builder.Config{Sharing: builder.Sharing{SnapshotGroups: []string{"all"}}}}, state.Permissions{}, state.Permissions{Public: true}, 1},
		"both": {
			Config{Config: builder.Config{Sharing: builder.Sharing{SnapshotUsers: []string{other}, SnapshotGroups: []string{"all"}}}, PublishConfig: PublishConfig{OMIAccountIDs: []string{other}, GlobalPermission: true}},
			state.Permissions{Accounts: []string{other}, Public: true}, state.Permissions{Accounts: []string{other}, Public: true}, 2,
		},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			o := newOutscale(t, state.Instant())
			c := o.cloud(t, test.options)
			_, snapshot := madeSnapshot(t, c, "b")
			image, err := c.Register(t.Context(), bake.ImageSpec{Build: "b", Name: "made", Snapshot: snapshot, SizeGiB: 4})
			if err != nil {
				t.Fatal(err)
			}
			if err := c.Publish(t.Context(), bake.PublishSpec{Image: image, Snapshots: []bake.SnapshotID{snapshot}}); err != nil {
				t.Fatal(err)
			}
			if got := o.find(t, string(image)).Launch; !samePermissions(got, test.image) {
				t.Errorf("the image may be launched by %+v, want %+v", got, test.image)
			}
			if got := o.snapshot(t, string(snapshot)).CreateVolume; !samePermissions(got, test.snapshot) {
				t.Errorf("the snapshot may be used by %+v, want %+v", got, test.snapshot)
			}
			if n := o.count("UpdateImage") + o.count("UpdateSnapshot"); n != test.calls {
				t.Errorf("%d calls, want %d", n, test.calls)
			}
		})
	}
}

func samePermissions(a, b state.Permissions) bool {
	return a.Public == b.Public && slices.Equal(a.Accounts, b.Accounts)
}

// restored registers an image again from its record, with its permissions and tags.
func restored(ctx context.Context, c *Cloud, record bake.Record) (bake.ImageID, error) {
	id, err := c.Restore(ctx, record)
	if err != nil {
		return id, err
	}
	return id, c.Regain(ctx, record, id)
}

// TestRecordAndRestore checks that a deregistered image is registered again as it was, once and
// with another ID.
func TestRecordAndRestore(t *testing.T) {
	o := newOutscale(t, state.Instant())
	c := o.cloud(t, Config{})
	img := o.image(t, mine, "old", state.ImageAttributes{BootModes: []string{"uefi"}, TPMMandatory: true, ProductCodes: []string{"0002"}, Architecture: "i386"})
	change := state.PermissionChange{Add: state.Permissions{Public: true, Accounts: []string{other}}}
	if _, err := o.state.ShareImage(mine, img.ID, change, false); err != nil {
		t.Fatal(err)
	}
	if err := o.state.AddTags(mine, []string{img.ID}, map[string]string{"k": "v"}, false); err != nil {
		t.Fatal(err)
	}
	was := o.find(t, img.ID)
	record, err := c.Record(t.Context(), bake.ImageID(img.ID))
	if err != nil || record.Name != "old" || string(record.Image) != img.ID || len(record.Snapshots) != 1 {
		t.Fatalf("%+v, %v", record, err)
	}
	text, err := json.Marshal(record)
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Deregister(t.Context(), bake.ImageID(img.ID)); err != nil {
		t.Fatal(err)
	}
	var read bake.Record
	if err := json.Unmarshal(text, &read); err != nil {
		t.Fatal(err)
	}
	id, err := restored(t.Context(), o.cloud(t, Config{}), read)
	if err != nil {
		t.Fatal(err)
	}
	if again, err := restored(t.Context(), o.cloud(t, Config{}), read); err != nil || again != id {
		t.Errorf("restored again as %s, %v; want %s", again, err, id)
	}
	got := o.find(t, string(id))
	got.ID, got.Created, got.State = was.ID, was.Created, was.State
	if !reflect.DeepEqual(got.Mappings, was.Mappings) || !reflect.DeepEqual(got.ImageAttributes, was.ImageAttributes) ||
		!samePermissions(got.Launch, was.Launch) || got.Tags["k"] != "v" || got.Name != was.Name {
		t.Errorf("restored as %+v\nwas %+v", got, was)
	}
}

// TestRecordRefuses checks that an image that could not be registered again is not removed.
func TestRecordRefuses(t *testing.T) {
	const device = `"BlockDeviceMappings":[{"DeviceName":"/dev/sda1","Bsu":{"SnapshotId":"snap-12345678"}}],"RootDeviceName":"/dev/sda1"`
	for fields, want := range map[string]string{
		`"State":"available","AccountId":"` + other + `",` + device:                 "belongs to account",
		`"State":"pending","AccountId":"` + me + `",` + device:                      "it is pending",
		`"State":"available","AccountId":"` + me + `"`:                              "has no snapshot",
		`"State":"available","SecureBoot":true,"AccountId":"` + me + `",` + device:  "secure boot",
		`"State":"available","SecureBoot":false,"AccountId":"` + me + `",` + device: "",
	} {
		s := newFake(t, map[string][]reply{"ReadImages": {{200, `{"Images":[{"ImageId":"ami-12345678","ImageName":"old",` + fields + `}]}`}}})
		_, err := s.cloud(Config{}).Record(t.Context(), "ami-12345678")
		if (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", fields, err, want)
		}
	}
	s := newFake(t, map[string][]reply{"ReadImages": {{200, `{"Images":[]}`}}})
	if _, err := s.cloud(Config{}).Record(t.Context(), "ami-12345678"); !errors.Is(err, bake.ErrNotFound) {
		t.Errorf("an image that is not there: %v", err)
	}
	for _, record := range []bake.Record{{Data: []byte("{")}, {Data: []byte("{}")}} {
		if _, err := s.cloud(Config{}).Restore(t.Context(), record); err == nil {
			t.Errorf("%+v is restored", record)
		}
	}
}

// A journal may have been cut off.
func FuzzRestore(f *testing.F) {
	for _, data := range []string{``, `{}`, `null`, `{"request":{"ImageName":"x","BlockDeviceMappings":[{"Bsu":null}]}}`, `{"permissions":{}}`, `{"tags":{"":""}}`} {
		f.Add([]byte(data))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		s := newFake(t, map[string][]reply{
			"ReadImages":  {{200, `{"Images":[]}`}},
			"CreateImage": {refused(400, "InvalidParameterValue", "4047", "no such thing")},
		})
		record := bake.Record{Image: "ami-1", Name: "base", Snapshots: []bake.SnapshotID{"snap-1"}, Data: data}
		_, err := s.cloud(Config{}).Restore(t.Context(), record)
		if err == nil || !strings.Contains(err.Error(), "base") {
			t.Errorf("the old image is not named: %v", err)
		}
	})
}
