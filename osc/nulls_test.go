package osc

import (
	"slices"
	"strings"
	"testing"

	"github.com/packer-chroot/packer-plugin-chroot/bake"
)

// TestNullElements checks that null in a list of a response is not an element.
func TestNullElements(t *testing.T) {
	environment(t, nil)
	nulls := strings.Repeat("null,", maxVolumes)
	s := newFake(t, map[string][]reply{
		"ReadAccounts": {{200, `{"Accounts":[null,{"AccountId":"` + me + `"}]}`}},
		"ReadVms":      {{200, `{"Vms":[null,{"VmId":"i-12345678","BlockDeviceMappings":[` + nulls + `{"DeviceName":"/dev/sda1"}]}]}`}},
		"ReadVolumes": {{200, `{"Volumes":[null,{"VolumeId":"vol-12345678","Size":1000000000000000001,"State":"available","LinkedVolumes":[null],` +
			`"Tags":[null,{"Key":"packer-chroot-build","Value":"b"}]}]}`}},
		"ReadSnapshots": {{200, `{"Snapshots":[null,{"SnapshotId":"snap-12345678","VolumeId":"vol-12345678","State":"completed"}]}`}},
		"ReadImages": {{200, `{"Images":[null,{"ImageId":"ami-12345678","AccountId":"` + me + `","Tags":[null],"BlockDeviceMappings":[null,` +
			`{"DeviceName":"/dev/sda1","Bsu":{"SnapshotId":"snap-12345678"}}]}]}`}},
		"ReadRegions": {{200, `{"Regions":[null,{"RegionName":"here"}]}`}},
		"instance-id": {{200, "i-12345678"}},
	})
	c := s.cloud(Config{})
	c.client.access.Region = "elsewhere"
	if host, err := c.Host(t.Context()); err != nil || !slices.Contains(host.Taken, "/dev/sda1") {
		t.Errorf("%+v, %v", host, err)
	}
	if v, err := c.Volume(t.Context(), "vol-12345678"); err != nil || v.Attach != bake.Detached || v.State != bake.VolumeAvailable || v.SizeGiB != 1000000000000000001 {
		t.Errorf("%+v, %v", v, err)
	}
	if found, err := c.FindVolumes(t.Context(), "b"); err != nil || !slices.Equal(found, []bake.VolumeID{"vol-12345678"}) {
		t.Errorf("%q, %v", found, err)
	}
	if found, err := c.FindSnapshots(t.Context(), "vol-12345678"); err != nil || len(found) != 1 {
		t.Errorf("%q, %v", found, err)
	}
	if img, err := c.Image(t.Context(), "ami-12345678"); err != nil || img.Root.Snapshot != "snap-12345678" || len(img.Tags) > 0 {
		t.Errorf("%+v, %v", img, err)
	}
	if err := c.checkRegion(t.Context()); err == nil || !strings.Contains(err.Error(), "it has here (") {
		t.Errorf("%v", err)
	}
}

// TestNullError checks that a refusal without a message is shown as it is.
func TestNullError(t *testing.T) {
	for _, body := range []string{`{"Errors":[null]}`, `{"Errors":[{}]}`} {
		s := newFake(t, map[string][]reply{"ReadVolumes": {{400, body}}})
		_, err := s.cloud(Config{}).Volume(t.Context(), "vol-1")
		says(t, err, "HTTP 400", "not of the Outscale API", body)
	}
}

// TestUnknownStates checks that an unknown state has the API's name, and is not taken for a
// known one.
func TestUnknownStates(t *testing.T) {
	s := newFake(t, map[string][]reply{
		"ReadVolumes": {{200, `{"Volumes":[{"VolumeId":"vol-1","State":"hibernating","LinkedVolumes":[{"VmId":"i-1","State":"floating"}]}]}`},
			{200, `{"Volumes":[{"VolumeId":"vol-1","State":"in-use","LinkedVolumes":[{"VmId":"i-1"}]}]}`}},
		"ReadSnapshots": {{200, `{"Snapshots":[{"SnapshotId":"snap-1","State":"archived"}]}`}},
		"ReadImages":    {{200, `{"Images":[{"ImageId":"ami-1","State":"withdrawn"}]}`}},
	})
	c := s.cloud(Config{})
	if v, err := c.Volume(t.Context(), "vol-1"); err != nil || v.State != "hibernating" || v.Attach != "floating" {
		t.Errorf("%+v, %v", v, err)
	}
	if v, err := c.Volume(t.Context(), "vol-1"); err != nil || v.Attach == "" || v.Attach == bake.Detached {
		t.Errorf("linked in no state: %+v, %v", v, err)
	}
	if snap, err := c.Snapshot(t.Context(), "snap-1"); err != nil || snap.State != "archived" {
		t.Errorf("%+v, %v", snap, err)
	}
	if img, err := c.Image(t.Context(), "ami-1"); err != nil || img.State != "withdrawn" {
		t.Errorf("%+v, %v", img, err)
	}
}

// FuzzWithoutNulls checks that JSON without null in a list stays as it is, and that a list
// keeps its elements.
func FuzzWithoutNulls(f *testing.F) {
	for _, seed := range []string{`{"a":[null,1,[null]]}`, `[null]`, `null`, `{"n":12345678901234567890}`, `{"a":null}`, `"null"`} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		once := withoutNulls(text)
		if twice := withoutNulls(once); string(twice) != string(once) {
			t.Errorf("%q, then %q, then %q", text, once, twice)
		}
	})
}
