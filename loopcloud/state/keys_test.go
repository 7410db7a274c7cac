package state_test

import (
	"regexp"
	"testing"

	"github.com/packer-chroot/packer-plugin-chroot/loopcloud/state"
)

const someKey = "1234abcd-12ab-34cd-56ef-1234567890ab"

func TestKeyARN(t *testing.T) {
	const arn = "arn:aws:kms:eu-west-2:111111111111:key/"
	for name, want := range map[string]string{
		someKey:                                arn + someKey,
		arn + someKey:                          arn + someKey,
		"mrk-0123456789abcdef0123456789abcdef": arn + "mrk-0123456789abcdef0123456789abcdef",
		"arn:aws:kms:us-east-1:222222222222:key/" + someKey:        "arn:aws:kms:us-east-1:222222222222:key/" + someKey,
		"arn:aws:kms:eu-west-2:111111111111:alias/mine":            state.KeyARN(mine, "alias/mine"),
		"arn:aws:kms:us-east-1:111111111111:alias/mine":            state.KeyARN(abroad, "alias/mine"),
		"arn:aws:kms:eu-west-2:111111111111:" + "alias/with/parts": state.KeyARN(mine, "alias/with/parts"),
	} {
		if got := state.KeyARN(mine, name); got != want {
			t.Errorf("%s is %s, not %s", name, got, want)
		}
	}
	of := regexp.MustCompile(`^` + arn + `[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$`)
	if got := state.KeyARN(mine, "alias/mine"); !of.MatchString(got) || got == state.KeyARN(mine, "alias/yours") || got == state.KeyARN(abroad, "alias/mine") {
		t.Errorf("an alias is %s", got)
	}
}

func TestKeyNames(t *testing.T) {
	c := newTestCloud(t, state.Instant())
	for name, ok := range map[string]bool{
		someKey: true, "alias/mine": true, "arn:aws:kms:eu-west-2:111111111111:key/" + someKey: true,
		"arn:aws-us-gov:kms:eu-west-2:111111111111:alias/a": true,
		"mine": false, "alias/": false, "alias/a b": false, "key/" + someKey: false, "mrk-12": false,
		"arn:aws:kms:eu-west-2:111111111111:" + someKey: false, "arn:aws:kms:eu-west-2:1:key/" + someKey: false,
		"arn:aws:s3:eu-west-2:111111111111:key/" + someKey: false, someKey + " ": false,
	} {
		v, err := c.CreateVolume(mine, state.VolumeRequest{Zone: zone, SizeGiB: 1, Encrypted: true, KMSKeyID: name})
		if ok {
			if err != nil || v.KMSKeyID != state.KeyARN(mine, name) {
				t.Errorf("%q: the key is %s (%v)", name, v.KMSKeyID, err)
			}
			continue
		}
		wantRefusal(t, err, state.Malformed, "key")
	}
}

// TestMissingKeys checks that an operation with a key that does not exist fails later, as at
// EC2, which responds before it looks up the key.
func TestMissingKeys(t *testing.T) {
	c := newTestCloud(t, state.Instant())
	s := c.snapshot()
	img := c.image("source")
	for _, key := range []string{
		"alias/missing", "00000000-0000-0000-0000-000000000000",
		"arn:aws:kms:us-west-2:111111111111:key/" + someKey, "arn:aws:kms:eu-west-2:111111111111:alias/missing-too",
	} {
		v, err := c.CreateVolume(mine, state.VolumeRequest{Zone: zone, SizeGiB: 1, Encrypted: true, KMSKeyID: key})
		if err != nil || v.State != state.VolumeCreating || v.ID == "" {
			t.Errorf("%s: a volume is %+v (%v)", key, v, err)
		}
		for _, other := range c.Volumes(mine) {
			if other.ID == v.ID {
				t.Errorf("%s: %s is listed", key, v.ID)
			}
		}
		made := must[state.Snapshot](t)(c.CopySnapshot(mine, state.SnapshotCopyRequest{SourceID: s.ID, Encrypted: true, KMSKeyID: key}))
		if got := c.readSnapshot(made.ID); got.State != state.SnapshotError || got.Reason == "" {
			t.Errorf("%s: a snapshot is %+v", key, got)
		}
		_, err = c.CreateVolume(mine, state.VolumeRequest{Zone: zone, SnapshotID: made.ID})
		wantRefusal(t, err, state.WrongState, "snapshot")
		copied := must[state.Image](t)(c.CopyImage(mine, state.ImageCopyRequest{
			SourceID: img.ID, Name: "copy", Encrypted: true, KMSKeyID: key,
		}))
		if got := c.readImage(copied.ID); got.State != state.ImageFailed || got.Reason == "" {
			t.Errorf("%s: an image is %+v", key, got)
		}
		if err := c.DeleteImage(mine, copied.ID, false); err != nil {
			t.Error(err)
		}
	}
}

// TestReencryption checks that a volume of an encrypted snapshot can have another key.
func TestReencryption(t *testing.T) {
	c := newTestCloud(t, state.Instant())
	plain := c.snapshot()
	v := must[state.Volume](t)(c.CreateVolume(mine, state.VolumeRequest{Zone: zone, SnapshotID: plain.ID, Encrypted: true}))
	if v.KMSKeyID != state.KeyARN(mine, state.DefaultKeyAlias) {
		t.Errorf("its key is %s", v.KMSKeyID)
	}
	s := must[state.Snapshot](t)(c.CreateSnapshot(mine, state.SnapshotRequest{VolumeID: v.ID}))
	again := must[state.Volume](t)(c.CreateVolume(mine, state.VolumeRequest{Zone: zone, SnapshotID: s.ID, KMSKeyID: someKey}))
	if !again.Encrypted || again.KMSKeyID != state.KeyARN(mine, someKey) {
		t.Errorf("encrypted again, it is %+v", again)
	}
}
