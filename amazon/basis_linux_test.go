package amazon

import (
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/hashicorp/packer-plugin-sdk/template/config"

	"github.com/packer-chroot/packer-plugin-chroot/bake"
	"github.com/packer-chroot/packer-plugin-chroot/loopcloud/state"
	"github.com/packer-chroot/packer-plugin-chroot/testdir"
)

// inEC2 makes this host an EC2 instance.
func inEC2(t *testing.T) {
	t.Helper()
	elsewhere(t)
	file := filepath.Join(testdir.New(t), "sys_vendor")
	if err := os.WriteFile(file, []byte("Amazon EC2\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	hostFiles = []string{file}
}

// TestBasis: the snapshot that is read, the parent, the encryption and the copy, for sources of each
// kind and each combination of options.
func TestBasis(t *testing.T) {
	w := newDirectCloud(t)
	imagesKey, otherKey := state.KeyARN(account, "alias/images"), state.KeyARN(account, "alias/other")
	own := w.source(account, "", sourceBlocks)
	sealed := w.source(account, imagesKey, sourceBlocks)
	private := w.source(theirs, "", sourceBlocks)
	w.share(private, state.Permissions{Accounts: []string{account.Account}})
	public := w.source(theirs, "", sourceBlocks)
	w.share(public, state.Permissions{Public: true})

	read := func(img state.Image) bake.SnapshotID { return bake.SnapshotID(rootOf(img)) }
	parent := func(img state.Image) bake.Basis { return bake.Basis{Read: read(img), Parent: read(img)} }
	all := func(img state.Image, e bake.Encryption) bake.Basis {
		return bake.Basis{Read: read(img), Encryption: e}
	}
	copied := func(img state.Image, suffix string, e bake.Encryption) bake.Basis {
		return bake.Basis{Copy: &bake.SourceCopy{Keep: true, Tags: map[string]string{copyTag: img.ID + " " + suffix}, Encryption: e}}
	}
	passing := func(e bake.Encryption) bake.Basis { return bake.Basis{Copy: &bake.SourceCopy{Encryption: e}} }
	encrypt := func(c *Config) { c.RootVolumeEncryptBoot = config.TriTrue }
	with := func(key string) func(*Config) { return func(c *Config) { c.RootVolumeKMSKeyID = key } }
	remove := func(c *Config) { c.KeepSourceCopy = config.TriFalse }
	scratch := func(c *Config) {
		c.FromScratch, c.RootDeviceName, c.AMIVirtualizationType = true, "/dev/xvda", "hvm"
	}
	both := func(changes ...func(*Config)) func(*Config) {
		return func(c *Config) {
			for _, change := range changes {
				change(c)
			}
		}
	}
	none, byDefault := bake.Encryption{}, bake.Encryption{Encrypted: true}
	keyed := func(arn string) bake.Encryption { return bake.Encryption{Encrypted: true, KMSKeyID: arn} }

	for _, test := range []struct {
		name      string
		source    state.Image
		change    func(*Config)
		ec2       bool // the build runs on EC2
		byDefault bool // the account encrypts by default
		want      bake.Basis
		reason    []string
	}{
		{"own", own, nil, false, false, parent(own), nil},
		{"own, to be encrypted", own, encrypt, false, false, copied(own, "alias/aws/ebs", byDefault), []string{"will be encrypted (root_volume_encrypt_boot is true", "copied", "at most $0.05 a month", "keep_source_copy"}},
		{"own, to be encrypted, on EC2", own, encrypt, true, false, all(own, byDefault), []string{"all of its blocks are uploaded", "at most $0.02 for each build", "at most $0.05 a month"}},
		{"own, to be encrypted, no copies, on EC2", own, both(encrypt, remove), true, false, passing(byDefault), []string{"the copy is removed after the build"}},
		{"own, encrypted by default", own, nil, true, true, all(own, byDefault), []string{"EBS encryption by default is on in eu-west-1"}},
		{"own, to be encrypted with a key", own, with("alias/images"), true, false, all(own, keyed(imagesKey)), []string{`root_volume_kms_key_id is "alias/images"`}},
		{"encrypted", sealed, nil, true, false, parent(sealed), nil},
		{"encrypted, and by default", sealed, nil, true, true, parent(sealed), nil},
		{"encrypted, to be encrypted", sealed, encrypt, true, false, parent(sealed), nil},
		{"encrypted, the same key", sealed, with("alias/images"), true, false, parent(sealed), nil},
		{"encrypted, the same key by its ID", sealed, with(imagesKey[strings.LastIndex(imagesKey, "/")+1:]), true, false, parent(sealed), nil},
		{"encrypted, another key", sealed, with("alias/other"), true, false, all(sealed, keyed(otherKey)), []string{"alias/other"}},
		{"encrypted, another key, elsewhere", sealed, with(otherKey), false, false, copied(sealed, otherKey, keyed(otherKey)), []string{"copied"}},
		{"shared", private, nil, false, false, all(private, none), []string{"belongs to another account", "all of its blocks are uploaded"}},
		{"shared, to be encrypted", private, with(imagesKey), false, false, all(private, keyed(imagesKey)), []string{"belongs to another account"}},
		{"shared, encrypted by default", private, nil, false, true, all(private, byDefault), []string{"belongs to another account"}},
		{"public", public, nil, false, false, copied(public, "unencrypted", none), []string{"cannot be read directly", public.ID, "at most $0.05 a month (1.0 GiB at $0.05, the price in us-east-1)", "keep_source_copy = false"}},
		{"public, on EC2", public, nil, true, false, copied(public, "unencrypted", none), []string{"cannot be read directly"}},
		{"public, no copies", public, remove, false, false, passing(none), []string{"cannot be read directly", "removed after the build"}},
		{"public, to be encrypted", public, with("alias/images"), true, false, copied(public, imagesKey, keyed(imagesKey)), []string{"cannot be read directly"}},
		{"public, encrypted by default", public, nil, true, true, copied(public, "alias/aws/ebs", byDefault), []string{"cannot be read directly"}},
		{"from scratch", state.Image{}, scratch, false, false, bake.Basis{}, nil},
		{"from scratch, to be encrypted", state.Image{}, both(scratch, with("alias/images")), false, false, bake.Basis{Encryption: keyed(imagesKey)}, nil},
		{"from scratch, encrypted by default", state.Image{}, scratch, false, true, bake.Basis{Encryption: byDefault}, nil},
	} {
		t.Run(test.name, func(t *testing.T) {
			elsewhere(t)
			if test.ec2 {
				inEC2(t)
			}
			w.control("POST", "settings", `{"encrypt_by_default":`+map[bool]string{true: "true", false: "false"}[test.byDefault]+`}`)
			before := len(w.Cloud().Snapshots(account)) + len(w.Cloud().Images(account))
			got, err := w.basis(w.cloud(func(c *Config) {
				c.SourceAMI = test.source.ID
				if test.change != nil {
					test.change(c)
				}
			}))
			if err != nil {
				t.Fatal(err)
			}
			for _, part := range test.reason {
				if !strings.Contains(got.Reason, part) {
					t.Errorf("%q does not say %q", got.Reason, part)
				}
			}
			if (got.Reason == "") != (test.reason == nil) {
				t.Errorf("the reason is %q", got.Reason)
			}
			got.Reason = ""
			if !reflect.DeepEqual(got, test.want) {
				t.Errorf("the basis is\n%+v (%+v), not\n%+v (%+v)", got, got.Copy, test.want, test.want.Copy)
			}
			if n := len(w.Cloud().Snapshots(account)) + len(w.Cloud().Images(account)); n != before {
				t.Errorf("%d snapshots and images were created", n-before)
			}
		})
	}
}

// copy makes a copy of a source as a build does.
func (w *directCloud) copy(c *Cloud, name string, from state.Image, s *bake.SourceCopy) bake.ImageID {
	w.Helper()
	id, err := c.Copy(w.Context(), bake.CopySpec{
		Build: "b", Source: bake.ImageID(from.ID), SourceRegion: account.Region, Name: name,
		ImageTags: s.Tags, SnapshotTags: s.Tags, Encrypted: s.Encrypted, KMSKeyID: s.KMSKeyID,
	})
	if err != nil {
		w.Fatal(err)
	}
	return id
}

// TestKeptCopies: a copy that an earlier build has kept is used, by each build the same, unless it is
// of another encryption or has failed. One that is being made is waited for.
func TestKeptCopies(t *testing.T) {
	w := newDirectCloud(t)
	elsewhere(t)
	public := w.source(theirs, "", sourceBlocks)
	w.share(public, state.Permissions{Public: true})
	other := w.source(account, "", sourceBlocks)
	c := w.cloud(func(c *Config) { c.SourceAMI = public.ID })
	basis := func() bake.Basis {
		t.Helper()
		b, err := w.basis(c)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	wanted := basis().Copy
	encrypted := *wanted
	encrypted.Encryption = bake.Encryption{Encrypted: true}
	w.copy(c, "of another encryption", public, &encrypted)
	w.copy(c, "not of the source", other, wanted)
	w.fault(`{"action":"CopyImage","times":1,"outcome":"error"}`)
	w.copy(c, "failed", public, wanted)
	if b := basis(); !reflect.DeepEqual(b.Copy, wanted) {
		t.Errorf("the basis is %+v (%+v)", b, b.Copy)
	}
	w.fault(`{"action":"CopyImage","times":1,"outcome":"never"}`)
	pending := w.copy(c, "pending", public, wanted)
	if b := basis(); b.Copy == nil || b.Copy.Pending != pending || !strings.Contains(b.Reason, string(pending)) {
		t.Errorf("the basis is %+v (%+v)", b, b.Copy)
	}
	w.fault()
	first := w.copy(c, "first", public, wanted)
	w.copy(c, "second", public, wanted)
	root := read(t, c, first).Root.Snapshot
	for _, keep := range []config.Trilean{config.TriUnset, config.TriFalse} {
		c.config.KeepSourceCopy = keep
		b := basis()
		if b.Read != root || b.Parent != root || b.Copy != nil || !strings.Contains(b.Reason, string(first)) || !strings.Contains(b.Reason, "a month") {
			t.Errorf("the basis is %+v, and the copy %s with %s", b, first, root)
		}
	}
	if s := w.described(root); s.Tags[copyTag] == "" {
		t.Errorf("the snapshot of the copy has the tags %v", s.Tags)
	}
}

// TestCopyWithAFormerDefaultKey: when the account has another default key, a copy that is encrypted with the
// former one is not used.
func TestCopyWithAFormerDefaultKey(t *testing.T) {
	w := newDirectCloud(t)
	elsewhere(t)
	own := w.source(account, "", sourceBlocks)
	c := w.cloud(func(c *Config) { c.SourceAMI, c.RootVolumeEncryptBoot = own.ID, config.TriTrue })
	first, err := w.basis(c)
	if err != nil || first.Copy == nil {
		t.Fatalf("%+v, %v", first, err)
	}
	id := w.copy(c, "copy", own, first.Copy)
	if b, err := w.basis(c); err != nil || b.Read != read(t, c, id).Root.Snapshot {
		t.Errorf("the copy is not used: %+v, %v", b, err)
	}
	w.control("POST", "settings", `{"default_key":"alias/new"}`)
	if b, err := w.basis(c); err != nil || b.Copy == nil || b.Copy.Tags[copyTag] == first.Copy.Tags[copyTag] {
		t.Errorf("the former key: %+v, %v", b, err)
	}
}

// TestImpossibleBasis: a build that cannot succeed fails before anything is created, and names the
// reason.
func TestImpossibleBasis(t *testing.T) {
	w := newDirectCloud(t)
	elsewhere(t)
	own := w.source(account, "", sourceBlocks)
	private := w.source(theirs, "", sourceBlocks)
	w.share(private, state.Permissions{Accounts: []string{account.Account}})
	denied := `{"action":"ACTION","dialect":"DIALECT","status":403,"code":"CODE","message":"User: ci is not authorized to perform: DIALECT:ACTION"}`
	refusing := func(dialect, action, code string) string {
		return strings.NewReplacer("ACTION", action, "DIALECT", dialect, "CODE", code).Replace(denied)
	}
	for name, test := range map[string]struct {
		fault   string
		setting string
		change  func(*Config)
		want    []string
	}{
		"the setting is not readable": {refusing("ec2", "GetEbsEncryptionByDefault", "UnauthorizedOperation"), "", func(c *Config) { c.SourceAMI = own.ID },
			[]string{"ebs_direct depends on", "ec2:GetEbsEncryptionByDefault"}},
		"blocks may not be listed": {refusing("ebs", "ListSnapshotBlocks", "AccessDeniedException"), "", func(c *Config) { c.SourceAMI = private.ID },
			[]string{"list the blocks of " + rootOf(private), "do not allow ebs:ListSnapshotBlocks"}},
		"the key is not known": {refusing("kms", "DescribeKey", "AccessDeniedException"), "", func(c *Config) { c.SourceAMI, c.RootVolumeKMSKeyID = own.ID, "alias/images" },
			[]string{"alias/images", "kms:DescribeKey", "ARN"}},
		"there is no key": {"", "", func(c *Config) { c.SourceAMI, c.RootVolumeKMSKeyID = own.ID, "alias/missing" }, []string{"alias/missing"}},
		"shared, and encrypted by default": {"", `{"encrypt_by_default":true}`, func(c *Config) { c.SourceAMI, c.AMIUsers = own.ID, []string{theirs.Account} },
			[]string{"ami_users", "which AWS manages", "encryption by default"}},
	} {
		t.Run(name, func(t *testing.T) {
			w.fault()
			if test.fault != "" {
				w.fault(test.fault)
			}
			w.control("POST", "settings", `{"encrypt_by_default":false}`)
			if test.setting != "" {
				w.control("POST", "settings", test.setting)
			}
			_, err := w.basis(w.cloud(test.change))
			says(t, err, test.want...)
		})
	}
}

// TestHostsOfEC2 recognizes instances by the files of their system.
func TestHostsOfEC2(t *testing.T) {
	file := filepath.Join(testdir.New(t), "file")
	for text, want := range map[string]bool{"Amazon EC2\n": true, "EC2e2e1": true, "ec2e1916a-9099": true, "QEMU\n": false, "": false, "Xen": false} {
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if got := onEC2([]string{"/nonexistent", file}); got != want {
			t.Errorf("%q: %t", text, got)
		}
	}
	if onEC2(nil) {
		t.Error("a host without these files is an instance")
	}
}

// TestPrices: a size that EC2 tells is used; otherwise that of the volume is the upper limit.
func TestPrices(t *testing.T) {
	p := priceOf(origin{sizeGiB: 100, stored: 2 << 30}, true, true)
	if !p.copyIsCheaper || p.month != "about $0.10 a month (2.0 GiB at $0.05, the price in us-east-1)" || p.build != "about $0.22 for each build (2.0 GiB)" {
		t.Errorf("elsewhere: %+v", p)
	}
	p = priceOf(origin{sizeGiB: 100}, false, true)
	if p.copyIsCheaper || !strings.HasPrefix(p.month, "at most $5.00") || !strings.HasPrefix(p.build, "at most $1.84") {
		t.Errorf("on EC2: %+v", p)
	}
}
