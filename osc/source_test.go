package osc

import (
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	api "github.com/outscale/osc-sdk-go/v3/pkg/osc"

	"github.com/packer-chroot/packer-plugin-chroot/builder"
	"github.com/packer-chroot/packer-plugin-chroot/loopcloud/state"
)

func TestSource(t *testing.T) {
	o := newOutscale(t, state.Instant())
	shared := o.image(t, theirs, "shared", state.ImageAttributes{})
	everyone := state.PermissionChange{Add: state.Permissions{Public: true}}
	if _, err := o.state.ShareImage(theirs, shared.ID, everyone, false); err != nil {
		t.Fatal(err)
	}
	open := o.image(t, theirs, "open", state.ImageAttributes{})
	if _, err := o.state.ShareImage(theirs, open.ID, everyone, false); err != nil {
		t.Fatal(err)
	}
	if _, err := o.state.ShareSnapshot(theirs, open.Mappings[0].Volume.SnapshotID, everyone, false); err != nil {
		t.Fatal(err)
	}
	tests := map[string]struct {
		options Config
		locked  bool
		err     string
	}{
		"own":            {Config{}, false, ""},
		"own, hvm":       {Config{ImageConfig: ImageConfig{OMIVirtualizationType: "hvm"}}, false, ""},
		"open":           {Config{SourceConfig: SourceConfig{SourceOMI: open.ID}}, false, ""},
		"snapshot kept":  {Config{SourceConfig: SourceConfig{SourceOMI: shared.ID}}, true, ""},
		"none":           {Config{SourceConfig: SourceConfig{SourceOMI: "ami-00000000"}}, false, "source_omi ami-00000000 is no image in region " + home},
		"malformed":      {Config{SourceConfig: SourceConfig{SourceOMI: "debian"}}, false, "4104"},
		"virtualization": {Config{ImageConfig: ImageConfig{OMIVirtualizationType: "paravirtual"}}, false, "omi_virtualization_type is paravirtual"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			img, err := o.cloud(t, test.options).Source(t.Context())
			switch {
			case test.err != "" && (err == nil || !strings.Contains(err.Error(), test.err)):
				t.Errorf("the error is %v, not about %q", err, test.err)
			case test.err == "" && (err != nil || img.Root.SizeGiB != 4 || img.Root.Type != "gp2" || img.Virtualization != "hvm" || img.Created == "" || img.Locked != test.locked):
				t.Errorf("%+v, %v", img, err)
			}
		})
	}
}

func TestUnusableSource(t *testing.T) {
	image := func(fields string) reply {
		return reply{200, `{"Images":[{"ImageId":"ami-12345678","AccountId":"` + me + `","RootDeviceName":"/dev/sda1",` + fields + `}]}`}
	}
	for fields, want := range map[string]string{
		`"State":"pending"`:   "it is pending",
		`"State":"available"`: "has no snapshot",
		`"State":"available","BlockDeviceMappings":[{"DeviceName":"/dev/sda1","VirtualDeviceName":"ephemeral0"}]`:    "has no snapshot",
		`"State":"available","BlockDeviceMappings":[{"DeviceName":"/dev/sdb","Bsu":{"SnapshotId":"snap-12345678"}}]`: "has no snapshot",
	} {
		s := newFake(t, map[string][]reply{"ReadImages": {image(fields)}})
		_, err := s.cloud(Config{SourceConfig: SourceConfig{SourceOMI: "ami-12345678"}}).Source(t.Context())
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", fields, err, want)
		}
	}
}

func TestSourceOfTwoMatches(t *testing.T) {
	const one = `{"ImageId":"ami-12345678","AccountId":"` + me + `","State":"available"}`
	s := newFake(t, map[string][]reply{"ReadImages": {{200, `{"Images":[` + one + `,` + one + `]}`}}})
	_, err := s.cloud(Config{SourceConfig: SourceConfig{SourceOMI: "ami-12345678"}}).Source(t.Context())
	if want := "source_omi: 2 images answer to the id ami-12345678, not one"; err == nil || err.Error() != want {
		t.Errorf("%v, want %q", err, want)
	}
}

// TestSourceFilter checks the image that a search finds, and the error if there is not exactly
// one.
func TestSourceFilter(t *testing.T) {
	o := newOutscale(t, state.Instant())
	made := map[string]string{"source": o.source}
	for _, i := range []struct {
		owner      state.Caller
		name       string
		attributes state.ImageAttributes
		tags       map[string]string
	}{
		{mine, "debian 1", state.ImageAttributes{BootModes: []string{"uefi"}}, map[string]string{"os": "debian", "n": "1"}},
		{mine, "debian 2", state.ImageAttributes{TPMMandatory: true}, map[string]string{"os": "debian", "n": "2"}},
		{theirs, "debian 3", state.ImageAttributes{Architecture: "i386"}, nil},
		{theirs, "twin", state.ImageAttributes{}, nil},
	} {
		img := o.image(t, i.owner, i.name, i.attributes)
		made[i.name] = img.ID
		if err := o.state.AddTags(i.owner, []string{img.ID}, i.tags, false); err != nil && len(i.tags) > 0 {
			t.Fatal(err)
		}
		if i.owner == theirs {
			everyone := state.PermissionChange{Add: state.Permissions{Public: true}}
			if _, err := o.state.ShareImage(theirs, img.ID, everyone, false); err != nil {
				t.Fatal(err)
			}
		}
		time.Sleep(2 * time.Millisecond) // creation dates have milliseconds
	}
	type filters = map[string]string
	tests := map[string]struct {
		pin    string
		search SourceFilterConfig
		want   string
		err    []string
	}{
		"name":                   {"", SourceFilterConfig{Filters: filters{"image-name": "debian 1"}, Owners: []string{"self"}}, "debian 1", nil},
		"the API's own name":     {"", SourceFilterConfig{Filters: filters{"ImageNames": "debian 1"}, Owners: []string{me}}, "debian 1", nil},
		"the seed's filters":     {"", SourceFilterConfig{Filters: filters{"virtualization-type": "hvm", "image-name": "deb*n 2", "root-device-type": "ebs"}, Owners: []string{"self"}}, "debian 2", nil},
		"newest":                 {"", SourceFilterConfig{Filters: filters{"image-name": "debian*"}, Owners: []string{"self"}, MostRecent: true}, "debian 2", nil},
		"newest of all owners":   {"", SourceFilterConfig{Filters: filters{"image-name": "debian*"}, Owners: []string{"self", other}, MostRecent: true}, "debian 3", nil},
		"alias":                  {"", SourceFilterConfig{Filters: filters{"image-name": "debian*"}, Owners: []string{"somebody"}}, "debian 3", nil},
		"alias and id":           {"", SourceFilterConfig{Filters: filters{"image-name": "debian*"}, Owners: []string{"somebody", "self", other}, MostRecent: true}, "debian 3", nil},
		"boot mode":              {"", SourceFilterConfig{Filters: filters{"boot-mode": "uefi"}, Owners: []string{"self"}}, "debian 1", nil},
		"true or false":          {"", SourceFilterConfig{Filters: filters{"tpm-mandatory": "true"}, Owners: []string{"self"}}, "debian 2", nil},
		"architecture":           {"", SourceFilterConfig{Filters: filters{"architecture": "i386"}, Owners: []string{"somebody", "self"}}, "debian 3", nil},
		"number":                 {"", SourceFilterConfig{Filters: filters{"block-device-mapping-volume-size": "4", "image-name": "source"}, Owners: []string{"self"}}, "source", nil},
		"all tags":               {"", SourceFilterConfig{Filters: filters{"tag:os": "debian", "tag:n": "1"}, Owners: []string{"self"}}, "debian 1", nil},
		"tag as the API has it":  {"", SourceFilterConfig{Filters: filters{"tags": "n=2"}, Owners: []string{"self"}}, "debian 2", nil},
		"an owner among filters": {"", SourceFilterConfig{Filters: filters{"account-id": other, "image-name": "twin"}, Owners: []string{"self", other}}, "twin", nil},
		"pinned":                 {"debian 1", SourceFilterConfig{Filters: filters{"image-name": "debian*"}, Owners: []string{"self"}}, "debian 1", nil},
		"pinned, owner alone":    {"debian 1", SourceFilterConfig{Owners: []string{"self"}}, "debian 1", nil},
		"pinned, not so":         {"source", SourceFilterConfig{Filters: filters{"image-name": "debian*"}, Owners: []string{"self"}}, "", []string{"source_omi " + o.source, "image-name \"debian*\"", "self"}},
		"pinned, another owner":  {"twin", SourceFilterConfig{Filters: filters{"image-name": "twin"}, Owners: []string{"self"}}, "", []string{"is not what source_omi_filter wants"}},
		"somebody else's":        {"", SourceFilterConfig{Filters: filters{"image-name": "twin"}, Owners: []string{"self"}}, "", []string{"finds no image", "of the owners self", "image-name \"twin\""}},
		"owner by filter alone":  {"", SourceFilterConfig{Filters: filters{"account-id": other, "image-name": "twin"}, Owners: []string{"self"}}, "", []string{"finds no image"}},
		"not all tags":           {"", SourceFilterConfig{Filters: filters{"tag:os": "debian", "tag:n": "3"}, Owners: []string{"self"}}, "", []string{"finds no image"}},
		"two":                    {"", SourceFilterConfig{Filters: filters{"image-name": "debian*"}, Owners: []string{"self"}}, "", []string{"finds 2 images", made["debian 1"], made["debian 2"], "debian 1", "most_recent"}},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			options := Config{SourceConfig: SourceConfig{SourceOMI: made[test.pin], SourceOMIFilter: test.search}}
			if err := errors.Join(options.checkRequest()...); err != nil {
				t.Fatal(err)
			}
			c := o.cloud(t, Config{})
			c.config.SourceConfig = options.SourceConfig
			img, err := c.Source(t.Context())
			if test.err == nil && (err != nil || string(img.ID) != made[test.want]) {
				t.Errorf("%s (%s), %v; want %s", img.ID, img.Name, err, test.want)
			}
			for _, part := range test.err {
				if err == nil || !strings.Contains(err.Error(), part) {
					t.Errorf("the error is %v, not about %q", err, part)
				}
			}
		})
	}
}

// TestFilters checks that every filter of ReadImages is accepted by the API's name and by the
// page's, and that an invalid one is reported before a request is sent.
func TestFilters(t *testing.T) {
	for name := range imageFilters {
		for _, spelled := range []string{name, kebab(name)} {
			for _, text := range []string{"true", "1"} {
				f, err := imageFilter(map[string]string{spelled: text})
				if err == nil && fmt.Sprintf("%+v", f) == "{}" {
					t.Errorf("%s %s is taken, and changes nothing", spelled, text)
				}
			}
		}
		if _, err := imageFilter(map[string]string{name: "true"}); err != nil && !strings.Contains(err.Error(), "whole number") {
			t.Errorf("%s: %v", name, err)
		}
	}
	for want, given := range map[string]map[string]string{
		`filters has "colour", which ReadIm`:  {"colour": "red"},
		"it knows account-alias, account-id,": {"colour": "red"},
		"which are the same filter":           {"image-name": "a", "ImageNames": "b"},
		"it must be true or false":            {"secure-boot": "perhaps"},
		"it must be a whole number":           {"block-device-mapping-volume-size": "big"},
		"use only tag:KEY":                    {"tags": "a=b", "tag:c": "d"},
	} {
		if _, err := imageFilter(given); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v: %v, want %q", given, err, want)
		}
	}
	if names := knownFilters(); !slices.Contains(names, "image-name") || !slices.Contains(names, "account-alias") || !slices.Contains(names, "tpm-mandatory") {
		t.Errorf("the page's names are %v", names)
	}
}

// TestLockedByAdditionalDevice checks that an image is also locked if the account cannot use
// the snapshot of an additional device that the new image would have.
func TestLockedByAdditionalDevice(t *testing.T) {
	o := newOutscale(t, state.Instant())
	everyone := state.PermissionChange{Add: state.Permissions{Public: true}}
	root, data := o.imported(t, theirs), o.imported(t, theirs)
	img, err := o.state.CreateImage(theirs, state.ImageRequest{
		Name: "two", IDDigits: 8, Attributes: state.ImageAttributes{RootDevice: "/dev/sda1"},
		Mappings: []state.Mapping{
			{Device: "/dev/sda1", Volume: &state.MappedVolume{SnapshotID: root, SizeGiB: 4}},
			{Device: "/dev/sdb", Volume: &state.MappedVolume{SnapshotID: data, SizeGiB: 4}},
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := o.state.ShareImage(theirs, img.ID, everyone, false); err != nil {
		t.Fatal(err)
	}
	if _, err := o.state.ShareSnapshot(theirs, root, everyone, false); err != nil {
		t.Fatal(err)
	}
	for name, test := range map[string]struct {
		mappings []BlockDevice
		locked   bool
	}{
		"inherited": {nil, true},
		"left out":  {[]BlockDevice{{BlockDevice: builder.BlockDevice{DeviceName: "/dev/sdb", NoDevice: true}}}, false},
		"replaced":  {[]BlockDevice{{BlockDevice: builder.BlockDevice{DeviceName: "xvdb", VolumeSize: 1}}}, false},
	} {
		got, err := o.cloud(t, Config{SourceConfig: SourceConfig{SourceOMI: img.ID}, ImageConfig: ImageConfig{OMIBlockDeviceMappings: test.mappings}}).Source(t.Context())
		if err != nil || got.Locked != test.locked {
			t.Errorf("%s: locked %v, %v", name, got.Locked, err)
		}
	}
}

// TestEveryImageFilter checks that each filter of ReadImages is known, and sets the field of its name
// and no other.
func TestEveryImageFilter(t *testing.T) {
	fields := reflect.TypeFor[api.FiltersImage]()
	for i := range fields.NumField() {
		name := fields.Field(i).Name
		set, known := imageFilters[name]
		if !known {
			t.Errorf("the filter %s is not known", name)
			continue
		}
		var filters api.FiltersImage
		if err := set(&filters, "1"); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		for j := range fields.NumField() {
			if is := !reflect.ValueOf(filters).Field(j).IsZero(); is != (i == j) {
				t.Errorf("the filter %s sets %s: %t", name, fields.Field(j).Name, is)
			}
		}
	}
	if len(imageFilters) != fields.NumField() {
		t.Errorf("there are %d filters, and %d in the SDK", len(imageFilters), fields.NumField())
	}
}
