package amazon

import (
	"context"
	"maps"
	"testing"

	"github.com/packer-chroot/packer-plugin-chroot/bake"
	"github.com/packer-chroot/packer-plugin-chroot/builder/buildertest"
	"github.com/packer-chroot/packer-plugin-chroot/loopcloud/state"
)

// The keys of the table: unencrypted, the region's default key, and keys of the account.
const (
	unencrypted = ""
	defaultKey  = state.DefaultKeyAlias
	baseKey     = "alias/base"
	// someKey stands for any key of a blank volume. EC2 accepts none for it.
	someKey = "any"
)

// keyIn returns the ARN of a key of the table in a region.
func keyIn(region, key string) string {
	if key == unencrypted {
		return ""
	}
	return state.KeyARN(state.Caller{Account: account.Account, Region: region}, key)
}

// snapshotWith returns a snapshot that is encrypted with a key of the table.
func (tc *testCloud) snapshotWith(t *testing.T, key string) string {
	t.Helper()
	volume, err := tc.state.CreateVolume(account, state.VolumeRequest{
		Zone: "eu-west-1a", SizeGiB: 1, Type: "gp2", IDDigits: 17, Encrypted: key != unencrypted, KMSKeyID: key,
	})
	if err != nil {
		t.Fatal(err)
	}
	snapshot, err := tc.state.CreateSnapshot(account, state.SnapshotRequest{VolumeID: volume.ID, IDDigits: 17})
	if err != nil {
		t.Fatal(err)
	}
	return snapshot.ID
}

// sourceWith returns an image whose root is encrypted with a key of the table, with
// further volumes.
func (tc *testCloud) sourceWith(t *testing.T, key string, further ...state.Mapping) string {
	t.Helper()
	mappings := []state.Mapping{{Device: "/dev/xvda", Volume: &state.MappedVolume{SnapshotID: tc.snapshotWith(t, key)}}}
	image, err := tc.state.CreateImage(account, state.ImageRequest{
		Name: "source", IDDigits: 17, Mappings: append(mappings, further...),
		Attributes: state.ImageAttributes{Architecture: string(hostArchitecture()), Virtualization: "hvm", RootDevice: "/dev/xvda"},
	})
	if err != nil {
		t.Fatal(err)
	}
	return image.ID
}

// publishedImages builds an image with the options, as bake does, and returns the remaining
// images by region.
func (tc *testCloud) publishedImages(t *testing.T, options map[string]any) map[string]state.Image {
	t.Helper()
	ctx := context.Background()
	var c Config
	buildertest.Prepared(t, &c, with(t, options))
	cloud := tc.worldwide(t, c)
	facts := lookUp(t, cloud)
	plan, err := cloud.Publication(ctx, facts)
	if err != nil {
		t.Fatal(err)
	}
	image := build(t, cloud, bake.VolumeSpec{Snapshot: facts.Source.Root.Snapshot, SizeGiB: 1, Encryption: plan.Root, Details: plan.Details}, facts.Source)
	all := map[string]state.Image{}
	if !plan.Passing {
		all[account.Region] = tc.find(t, image)
	}
	for _, wanted := range plan.Copies {
		id, err := cloud.In(wanted.Region).Copy(ctx, bake.CopySpec{
			Build: "b", Source: image, SourceRegion: account.Region, Name: "final", Encrypted: wanted.Encrypted, KMSKeyID: wanted.KMSKeyID,
		})
		if err != nil {
			t.Fatal(err)
		}
		all[wanted.Region] = tc.in(t, wanted.Region, id)
	}
	return all
}

// TestKeysOfTheImage builds images of all combinations of encrypted sources, additional
// volumes and encryption options, and checks the key of each volume.
func TestKeysOfTheImage(t *testing.T) {
	type keys = map[string]string // by device
	const root, data, home, abroad = "/dev/xvda", "/dev/sdf", "eu-west-1", "us-east-1"
	type give = map[string]any
	device := func(more give) []any {
		return []any{buildertest.Device(merge(give{"device_name": data, "volume_size": 1}, more))}
	}
	for name, row := range map[string]struct {
		root    string // the key of the source's root
		data    string // that of its further volume, if it has one
		further func(tc *testCloud, t *testing.T, key string) *state.MappedVolume
		give    give
		want    map[string]keys
	}{
		"nothing, plain":              {unencrypted, "", nil, nil, map[string]keys{home: {root: unencrypted}}},
		"nothing, default":            {defaultKey, "", nil, nil, map[string]keys{home: {root: defaultKey}}},
		"nothing, custom":             {baseKey, "", nil, nil, map[string]keys{home: {root: baseKey}}},
		"false, plain":                {unencrypted, "", nil, give{"encrypt_boot": false}, map[string]keys{home: {root: unencrypted}}},
		"false, custom":               {baseKey, "", nil, give{"encrypt_boot": false}, map[string]keys{home: {root: baseKey}}},
		"true, plain":                 {unencrypted, "", nil, give{"encrypt_boot": true}, map[string]keys{home: {root: defaultKey}}},
		"true, default":               {defaultKey, "", nil, give{"encrypt_boot": true}, map[string]keys{home: {root: defaultKey}}},
		"true, custom":                {baseKey, "", nil, give{"encrypt_boot": true}, map[string]keys{home: {root: defaultKey}}},
		"a key, plain":                {unencrypted, "", nil, give{"encrypt_boot": true, "kms_key_id": "alias/k"}, map[string]keys{home: {root: "alias/k"}}},
		"a key, custom":               {baseKey, "", nil, give{"encrypt_boot": true, "kms_key_id": "alias/k"}, map[string]keys{home: {root: "alias/k"}}},
		"the root's, plain":           {unencrypted, "", nil, give{"root_volume_encrypt_boot": true}, map[string]keys{home: {root: defaultKey}}},
		"the root's, custom":          {baseKey, "", nil, give{"root_volume_encrypt_boot": true}, map[string]keys{home: {root: baseKey}}},
		"the root's key":              {baseKey, "", nil, give{"root_volume_kms_key_id": "alias/k"}, map[string]keys{home: {root: "alias/k"}}},
		"the root's key, and true":    {unencrypted, "", nil, give{"root_volume_kms_key_id": "alias/r", "encrypt_boot": true, "kms_key_id": "alias/k"}, map[string]keys{home: {root: "alias/k"}}},
		"the root's mapping":          {unencrypted, "", nil, give{"ami_block_device_mappings": []any{give{"device_name": root, "encrypted": true, "kms_key_id": "alias/k"}}}, map[string]keys{home: {root: "alias/k"}}},
		"data, nothing":               {unencrypted, baseKey, ofSnapshot, nil, map[string]keys{home: {root: unencrypted, data: baseKey}}},
		"data plain, true":            {unencrypted, unencrypted, ofSnapshot, give{"encrypt_boot": true}, map[string]keys{home: {root: defaultKey, data: defaultKey}}},
		"data plain, a key":           {baseKey, unencrypted, ofSnapshot, give{"encrypt_boot": true, "kms_key_id": "alias/k"}, map[string]keys{home: {root: "alias/k", data: "alias/k"}}},
		"data custom, true":           {unencrypted, baseKey, ofSnapshot, give{"encrypt_boot": true}, map[string]keys{home: {root: defaultKey, data: defaultKey}}},
		"data custom, a key":          {baseKey, baseKey, ofSnapshot, give{"encrypt_boot": true, "kms_key_id": "alias/k"}, map[string]keys{home: {root: "alias/k", data: "alias/k"}}},
		"data blank, nothing":         {baseKey, unencrypted, ofNothing, nil, map[string]keys{home: {root: baseKey, data: unencrypted}}},
		"data blank, true":            {unencrypted, unencrypted, ofNothing, give{"encrypt_boot": true}, map[string]keys{home: {root: defaultKey, data: someKey}}},
		"data blank, custom, true":    {baseKey, unencrypted, ofNothing, give{"encrypt_boot": true}, map[string]keys{home: {root: defaultKey, data: someKey}}},
		"mapped blank, nothing":       {unencrypted, "", nil, give{"ami_block_device_mappings": device(nil)}, map[string]keys{home: {root: unencrypted, data: unencrypted}}},
		"mapped blank, encrypted":     {unencrypted, "", nil, give{"ami_block_device_mappings": device(give{"encrypted": true})}, map[string]keys{home: {root: unencrypted, data: defaultKey}}},
		"mapped blank, true":          {unencrypted, "", nil, give{"encrypt_boot": true, "ami_block_device_mappings": device(nil)}, map[string]keys{home: {root: defaultKey, data: defaultKey}}},
		"mapped blank false, true":    {unencrypted, "", nil, give{"encrypt_boot": true, "ami_block_device_mappings": device(give{"encrypted": false})}, map[string]keys{home: {root: defaultKey, data: defaultKey}}},
		"mapped blank, false":         {unencrypted, "", nil, give{"encrypt_boot": false, "ami_block_device_mappings": device(give{"encrypted": true})}, map[string]keys{home: {root: unencrypted, data: defaultKey}}},
		"mapped blank, a copied root": {baseKey, "", nil, give{"encrypt_boot": true, "ami_block_device_mappings": device(give{"encrypted": true})}, map[string]keys{home: {root: defaultKey, data: someKey}}},
		"mapped plain, true":          {unencrypted, "", nil, give{"encrypt_boot": true, "ami_block_device_mappings": device(give{"volume_size": nil, "snapshot_id": unencrypted})}, map[string]keys{home: {root: defaultKey, data: defaultKey}}},
		"mapped custom, nothing":      {unencrypted, "", nil, give{"ami_block_device_mappings": device(give{"volume_size": nil, "snapshot_id": baseKey})}, map[string]keys{home: {root: unencrypted, data: baseKey}}},
		"mapped custom, true":         {unencrypted, "", nil, give{"encrypt_boot": true, "ami_block_device_mappings": device(give{"volume_size": nil, "snapshot_id": baseKey, "encrypted": true})}, map[string]keys{home: {root: defaultKey, data: defaultKey}}},

		"abroad, nothing": {baseKey, unencrypted, ofNothing, give{"ami_regions": []any{abroad}}, map[string]keys{home: {root: baseKey, data: unencrypted}, abroad: {root: defaultKey, data: unencrypted}}},
		"abroad, true":    {baseKey, baseKey, ofSnapshot, give{"encrypt_boot": true, "ami_regions": []any{abroad}}, map[string]keys{home: {root: defaultKey, data: defaultKey}, abroad: {root: defaultKey, data: defaultKey}}},
		"abroad, keys": {unencrypted, unencrypted, ofNothing, give{"encrypt_boot": true, "kms_key_id": "alias/k", "ami_regions": []any{abroad}, "region_kms_key_ids": give{abroad: "alias/a"}},
			map[string]keys{home: {root: "alias/k", data: someKey}, abroad: {root: "alias/a", data: someKey}}},
		"abroad, a default key": {baseKey, "", nil, give{"encrypt_boot": true, "kms_key_id": "alias/k", "ami_regions": []any{abroad}, "region_kms_key_ids": give{abroad: ""}},
			map[string]keys{home: {root: "alias/k"}, abroad: {root: defaultKey}}},
		"abroad only by its key": {unencrypted, unencrypted, ofNothing, give{"ami_regions": []any{abroad}, "region_kms_key_ids": give{abroad: ""}},
			map[string]keys{home: {root: unencrypted, data: someKey}, abroad: {root: defaultKey, data: someKey}}},
		"abroad only": {baseKey, unencrypted, ofSnapshot, give{"encrypt_boot": true, "ami_regions": []any{abroad}, "skip_save_build_region": true},
			map[string]keys{abroad: {root: defaultKey, data: defaultKey}}},
		"the home's own entry": {baseKey, "", nil, give{"encrypt_boot": true, "kms_key_id": "alias/k", "ami_regions": []any{home}, "region_kms_key_ids": give{home: "alias/h"}},
			map[string]keys{home: {root: "alias/h"}}},
		"the home's own empty entry": {baseKey, "", nil, give{"encrypt_boot": true, "kms_key_id": "alias/k", "ami_regions": []any{home}, "region_kms_key_ids": give{home: ""}},
			map[string]keys{home: {root: defaultKey}}},
	} {
		t.Run(name, func(t *testing.T) {
			tc := newTestCloud(t, state.Instant())
			var further []state.Mapping
			if row.further != nil {
				further = append(further, state.Mapping{Device: data, Volume: row.further(tc, t, row.data)})
			}
			options := merge(give{"source_ami": tc.sourceWith(t, row.root, further...), "region": home}, row.give)
			tc.makeSnapshots(t, options)
			images := tc.publishedImages(t, options)
			if len(images) != len(row.want) {
				t.Errorf("images in %v, want them in %v", maps.Keys(images), maps.Keys(row.want))
			}
			for region, want := range row.want {
				tc.hasKeys(t, region, images[region], want)
			}
		})
	}
}

// merge returns the options overridden by others.
func merge(options, more map[string]any) map[string]any {
	all := maps.Clone(options)
	maps.Copy(all, more)
	return all
}

func ofSnapshot(tc *testCloud, t *testing.T, key string) *state.MappedVolume {
	t.Helper()
	return &state.MappedVolume{SnapshotID: tc.snapshotWith(t, key)}
}

func ofNothing(_ *testCloud, _ *testing.T, _ string) *state.MappedVolume {
	return &state.MappedVolume{SizeGiB: 1}
}

// makeSnapshots replaces each snapshot_id, which names a key, with a snapshot of it.
func (tc *testCloud) makeSnapshots(t *testing.T, options map[string]any) {
	t.Helper()
	devices, _ := options["ami_block_device_mappings"].([]any)
	for _, d := range devices {
		device := d.(map[string]any)
		if key, ok := device["snapshot_id"].(string); ok {
			device["snapshot_id"] = tc.snapshotWith(t, key)
		}
	}
}

// hasKeys fails the test unless the volumes of an image, and their snapshots, have
// these keys.
func (tc *testCloud) hasKeys(t *testing.T, region string, image state.Image, want map[string]string) {
	t.Helper()
	for device, key := range want {
		volume := mappedVolume(image, device)
		if volume == nil {
			t.Errorf("%s: no volume %s in %+v", region, device, image.Mappings)
			continue
		}
		got := volume.KMSKeyID
		if volume.SnapshotID != "" {
			got = tc.snapshot(t, region, volume.SnapshotID).KMSKeyID
		}
		switch {
		case volume.Encrypted != (key != unencrypted):
			t.Errorf("%s: %s is encrypted: %t, want the key %q", region, device, volume.Encrypted, key)
		case key != someKey && got != keyIn(region, key):
			t.Errorf("%s: %s has the key %s, want %q, which is %s", region, device, got, key, keyIn(region, key))
		}
	}
}

// mappedVolume returns the volume of a device of an image, or nil.
func mappedVolume(image state.Image, device string) *state.MappedVolume {
	for _, m := range image.Mappings {
		if m.Device == device {
			return m.Volume
		}
	}
	return nil
}
