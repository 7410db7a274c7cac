package amazon

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/packer-chroot/packer-plugin-chroot/bake"
	"github.com/packer-chroot/packer-plugin-chroot/builder/buildertest"
	"github.com/packer-chroot/packer-plugin-chroot/loopcloud/state"
)

// abroad is a region beside the one that the tests build in.
const abroad = "us-east-1"

// set changes the account's settings in a region.
func (tc *testCloud) set(t *testing.T, region string, change func(*state.Settings)) {
	t.Helper()
	_, err := tc.state.ChangeSettings(state.Caller{Account: account.Account, Region: region}, func(s *state.Settings) error {
		change(s)
		return nil
	}, false)
	if err != nil {
		t.Fatal(err)
	}
}

// deny has EC2 refuse actions, as ones that no policy allows.
func (tc *testCloud) deny(actions ...string) {
	next := tc.wire.Next
	tc.wire.Next = http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		r.Body = io.NopCloser(bytes.NewReader(body))
		form, _ := url.ParseQuery(string(body))
		if action := cmp.Or(form.Get("Action"), r.Header.Get("X-Amz-Target")); slices.Contains(actions, action) {
			rw.WriteHeader(http.StatusForbidden)
			fmt.Fprintf(rw, "<Response><Errors><Error><Code>UnauthorizedOperation</Code><Message>no %s</Message></Error></Errors><RequestID>r</RequestID></Response>", action)
			return
		}
		next.ServeHTTP(rw, r)
	})
}

// describeKey is KMS's action, as its requests name it.
const describeKey = "TrentService.DescribeKey"

// A sharedBuild is the result of a build with an image to be shared.
type sharedBuild struct {
	checked, created, published error
	warnings                    []string
}

// share builds an image of the options, as bake does, and shares it.
func (tc *testCloud) share(t *testing.T, options map[string]any) (b sharedBuild) {
	t.Helper()
	ctx := context.Background()
	var c Config
	buildertest.Prepared(t, &c, with(t, options))
	cloud := tc.worldwide(t, c)
	cloud.log = func(format string, args ...any) { b.warnings = append(b.warnings, fmt.Sprintf(format, args...)) }
	facts := lookUp(t, cloud)
	var plan bake.Publication
	if plan, b.checked = cloud.Publication(ctx, facts); b.checked != nil {
		return b
	}
	spec := bake.VolumeSpec{
		Build: "b", Zone: facts.Host.Zone, Snapshot: facts.Source.Root.Snapshot, SizeGiB: 1, Encryption: plan.Root, Details: plan.Details,
	}
	id, err := cloud.CreateVolume(ctx, spec)
	if b.created = err; err != nil {
		if id == "" {
			t.Error("the volume that was created is not told of")
		}
		return b
	}
	image := build(t, cloud, spec, facts.Source)
	for region, id := range tc.copies(t, cloud, plan, image) {
		var snapshots []bake.SnapshotID
		for _, m := range tc.in(t, region, id).Mappings {
			if m.Volume != nil && m.Volume.SnapshotID != "" {
				snapshots = append(snapshots, bake.SnapshotID(m.Volume.SnapshotID))
			}
		}
		if err := cloud.In(region).Publish(ctx, bake.PublishSpec{Image: id, Snapshots: snapshots}); err != nil {
			b.published = err
		}
	}
	return b
}

// copies makes the copies of an image that a plan has, and returns the images by region.
func (tc *testCloud) copies(t *testing.T, cloud *Cloud, plan bake.Publication, image bake.ImageID) map[string]bake.ImageID {
	t.Helper()
	all := map[string]bake.ImageID{}
	if !plan.Passing {
		all[account.Region] = image
	}
	for _, wanted := range plan.Copies {
		id, err := cloud.In(wanted.Region).Copy(context.Background(), bake.CopySpec{
			Build: "b", Source: image, SourceRegion: account.Region, Name: "final", Encrypted: wanted.Encrypted, KMSKeyID: wanted.KMSKeyID,
		})
		if err != nil {
			t.Fatal(err)
		}
		all[wanted.Region] = id
	}
	return all
}

// TestSharingOfEncryptedImages checks that images that EC2 would refuse to share are refused
// before anything is created, or as soon as the volume shows it, and that all others can be
// shared.
func TestSharingOfEncryptedImages(t *testing.T) {
	type give = map[string]any
	const home = "eu-west-1"
	users := []any{"222222222222"}
	all := []any{"all"}
	byDefault := func(region, key string) func(*testCloud, *testing.T) {
		return func(tc *testCloud, t *testing.T) {
			tc.set(t, region, func(s *state.Settings) { s.EncryptByDefault, s.DefaultKey = true, key })
		}
	}
	defaultIs := func(region, key string) func(*testCloud, *testing.T) {
		return func(tc *testCloud, t *testing.T) { tc.set(t, region, func(s *state.Settings) { s.DefaultKey = key }) }
	}
	denied := []string{"GetEbsEncryptionByDefault", "GetEbsDefaultKmsKeyId"}
	rootOf := func(more give) []any {
		return []any{merge(give{"device_name": "/dev/xvda", "encrypted": true}, more)}
	}
	for name, row := range map[string]struct {
		root     string // the key of the source's root
		settings func(*testCloud, *testing.T)
		denied   []string
		give     give
		checked  []string // words of the refusal by Publication
		created  []string // words of the refusal when the volume is there
		warned   []string // words of a warning
	}{
		"plain":                     {unencrypted, nil, nil, give{"ami_users": users, "snapshot_users": users}, nil, nil, nil},
		"plain, public":             {unencrypted, nil, nil, give{"ami_groups": all, "snapshot_groups": all}, nil, nil, nil},
		"plain, abroad":             {unencrypted, nil, nil, give{"ami_users": users, "ami_regions": []any{abroad}}, nil, nil, nil},
		"a key of the account's":    {unencrypted, nil, nil, give{"ami_users": users, "root_volume_kms_key_id": "alias/k"}, nil, nil, nil},
		"keys everywhere":           {unencrypted, nil, nil, give{"ami_users": users, "encrypt_boot": true, "kms_key_id": "alias/k", "ami_regions": []any{abroad}, "region_kms_key_ids": give{abroad: "alias/k"}}, nil, nil, nil},
		"the root's default key":    {unencrypted, nil, nil, give{"ami_users": users, "root_volume_encrypt_boot": true}, []string{`ami_users is ["222222222222"]`, "root volume in eu-west-1", "alias/aws/ebs", "root_volume_encrypt_boot is true", "give root_volume_kms_key_id"}, nil, nil},
		"the same, snapshots":       {unencrypted, nil, nil, give{"snapshot_users": users, "root_volume_encrypt_boot": true}, []string{`snapshot_users is ["222222222222"]`, "root_volume_encrypt_boot is true"}, nil, nil},
		"the same, an organization": {unencrypted, nil, nil, give{"ami_org_arns": []any{organization}, "root_volume_encrypt_boot": true}, []string{"ami_org_arns", "root_volume_encrypt_boot is true"}, nil, nil},
		"the same, not shared":      {unencrypted, nil, nil, give{"root_volume_encrypt_boot": true}, nil, nil, nil},
		"another default key":       {unencrypted, defaultIs(home, "alias/own"), nil, give{"ami_users": users, "root_volume_encrypt_boot": true}, nil, nil, nil},
		"another one, not told of":  {unencrypted, defaultIs(home, "alias/own"), denied, give{"ami_users": users, "root_volume_encrypt_boot": true}, nil, nil, nil},
		"AWS's, not told of":        {unencrypted, nil, denied, give{"ami_users": users, "root_volume_encrypt_boot": true}, nil, []string{"ami_users", "root volume in eu-west-1", "root_volume_encrypt_boot is true", "give root_volume_kms_key_id"}, nil},
		"another one, nothing told": {unencrypted, defaultIs(home, "alias/own"), append(denied, describeKey), give{"ami_users": users, "root_volume_encrypt_boot": true}, nil, nil, []string{"warning: ami_users", "kms:DescribeKey", "root_volume_kms_key_id"}},
		"a mapping's default key":   {unencrypted, nil, nil, give{"ami_users": users, "ami_block_device_mappings": rootOf(nil)}, []string{"ami_users", "ami_block_device_mappings has encrypted for /dev/xvda", "kms_key_id of /dev/xvda"}, nil, nil},
		"a mapping's key":           {unencrypted, nil, nil, give{"ami_users": users, "ami_block_device_mappings": rootOf(give{"kms_key_id": "alias/k"})}, nil, nil, nil},
		"a blank device's":          {unencrypted, nil, nil, give{"ami_users": users, "ami_block_device_mappings": []any{buildertest.Device(give{"encrypted": true, "volume_size": 1})}}, nil, nil, nil},
		"a copy's default key": {unencrypted, nil, nil, give{"ami_users": users, "root_volume_kms_key_id": "alias/k", "ami_regions": []any{abroad}},
			[]string{"ami_users", "the copy in us-east-1", `root_volume_kms_key_id is "alias/k"`, `set encrypt_boot, and give kms_key_id and region_kms_key_ids["us-east-1"]`}, nil, nil},
		"a copy's other default key":      {unencrypted, defaultIs(abroad, "alias/own"), nil, give{"ami_users": users, "root_volume_kms_key_id": "alias/k", "ami_regions": []any{abroad}}, nil, nil, nil},
		"a copy's, nothing told":          {unencrypted, defaultIs(abroad, "alias/own"), denied, give{"ami_users": users, "root_volume_kms_key_id": "alias/k", "ami_regions": []any{abroad}}, nil, nil, []string{"warning: ami_users", "ec2:GetEbsDefaultKmsKeyId", "us-east-1"}},
		"a copy's empty key":              {unencrypted, nil, nil, give{"ami_users": users, "ami_regions": []any{abroad}, "region_kms_key_ids": give{abroad: ""}}, []string{"ami_users", `region_kms_key_ids["us-east-1"] is empty`}, nil, nil},
		"only a copy":                     {unencrypted, nil, nil, give{"ami_users": users, "root_volume_encrypt_boot": true, "encrypt_boot": true, "kms_key_id": "alias/aws/ebs", "ami_regions": []any{abroad}, "region_kms_key_ids": give{abroad: "alias/k"}, "skip_save_build_region": true}, nil, nil, nil},
		"by default":                      {unencrypted, byDefault(home, ""), nil, give{"ami_users": users}, nil, []string{"ami_users", "encryption by default is on in eu-west-1", "alias/aws/ebs", "give root_volume_kms_key_id"}, nil},
		"by default, with a key":          {unencrypted, byDefault(home, ""), nil, give{"ami_users": users, "root_volume_kms_key_id": "alias/k"}, nil, nil, nil},
		"by default, another key":         {unencrypted, byDefault(home, "alias/own"), nil, give{"ami_users": users}, nil, nil, nil},
		"by default, not told of":         {unencrypted, byDefault(home, ""), denied, give{"ami_users": users}, nil, []string{"ami_users", "encryption by default is on", "eu-west-1", "give root_volume_kms_key_id"}, nil},
		"by default, public":              {unencrypted, byDefault(home, "alias/own"), nil, give{"ami_groups": all}, nil, []string{`ami_groups is ["all"]`, "nothing encrypted can be public", "encryption by default is on in eu-west-1"}, nil},
		"by default, public, not told of": {unencrypted, byDefault(home, "alias/own"), denied, give{"ami_groups": all}, nil, []string{`ami_groups is ["all"]`, "encryption by default is on", "eu-west-1"}, nil},
		"by default, copies, not told of": {unencrypted, byDefault(home, "alias/own"), denied[:1], give{"ami_users": users, "ami_regions": []any{abroad}}, nil, []string{"ami_users", "the copy in us-east-1", "encryption by default is on in eu-west-1"}, nil},
		"by default abroad":               {unencrypted, byDefault(abroad, ""), nil, give{"ami_users": users, "ami_regions": []any{abroad}}, []string{"ami_users", "the copy in us-east-1", "encryption by default is on in us-east-1"}, nil, nil},
		"by default abroad, public":       {unencrypted, byDefault(abroad, "alias/own"), nil, give{"snapshot_groups": all, "ami_regions": []any{abroad}}, []string{"snapshot_groups", "the copy in us-east-1"}, nil, nil},
		"an encrypted source":             {baseKey, nil, nil, give{"ami_users": users, "snapshot_users": users}, nil, nil, nil},
		"a source with AWS's key":         {defaultKey, nil, nil, give{"ami_users": users}, []string{"ami_users", "the key of the source's root snapshot snap-", "AWS manages", "give root_volume_kms_key_id"}, nil, nil},
		"a source, the key is not told":   {baseKey, nil, []string{describeKey}, give{"ami_users": users}, nil, nil, []string{"warning: ami_users", "source's root snapshot", "kms:DescribeKey"}},
		"a source of AWS's key, by its":   {defaultKey, nil, nil, give{"ami_users": users, "root_volume_encrypt_boot": true}, []string{"ami_users", "the key of the source's root snapshot"}, nil, nil},
		"an encrypted source, public":     {baseKey, nil, nil, give{"ami_groups": all}, []string{"ami_groups", "the root volume in eu-west-1", "source's root snapshot snap-"}, nil, nil},
		"an encrypted source, copied":     {baseKey, nil, nil, give{"ami_users": users, "ami_regions": []any{abroad}}, []string{"ami_users", "the copy in us-east-1", "source's root snapshot snap-"}, nil, nil},
		"an encrypted source, a key":      {defaultKey, nil, nil, give{"ami_users": users, "root_volume_kms_key_id": "alias/k"}, nil, nil, nil},
	} {
		t.Run(name, func(t *testing.T) {
			tc := newTestCloud(t, state.Instant())
			if row.settings != nil {
				row.settings(tc, t)
			}
			tc.deny(row.denied...)
			got := tc.share(t, merge(give{"source_ami": tc.sourceWith(t, row.root), "region": home}, row.give))
			refused(t, "Publication", got.checked, row.checked)
			refused(t, "the creating of the volume", got.created, row.created)
			if got.published != nil {
				t.Errorf("it was not refused, and then: %v", got.published)
			}
			if warnings := strings.Join(got.warnings, "\n"); (row.warned == nil) == strings.Contains(warnings, "warning: ") {
				t.Errorf("warned was %q, want %q", warnings, row.warned)
			} else if row.warned != nil {
				says(t, fmt.Errorf("%s", warnings), row.warned...)
			}
		})
	}
}

// refused checks that a step was refused with these words, or not at all.
func refused(t *testing.T, step string, err error, words []string) {
	t.Helper()
	switch {
	case words != nil:
		says(t, err, words...)
	case err != nil:
		t.Errorf("%s refuses: %v", step, err)
	}
}

// TestBlockedFromBeingPublic checks that a region that blocks public access is named before
// anything is created. Without the permission to read the setting, the error is reported at
// the end of the build.
func TestBlockedFromBeingPublic(t *testing.T) {
	type give = map[string]any
	all := []any{"all"}
	images := func(s *state.Settings) { s.BlockPublicImages = true }
	snapshots := func(s *state.Settings) { s.BlockPublicSnapshots = state.BlockAllSharing }
	quota := func(s *state.Settings) { s.PublicImages = 1 }
	questions := []string{"GetImageBlockPublicAccessState", "GetSnapshotBlockPublicAccessState"}
	for name, row := range map[string]struct {
		region    string
		settings  func(*state.Settings)
		denied    []string
		give      give
		checked   []string
		published []string
	}{
		"AMIs here":            {"eu-west-1", images, nil, give{"ami_groups": all}, []string{`ami_groups is ["all"]`, "Block public access for AMIs", "block-new-sharing", "eu-west-1", "ec2:DisableImageBlockPublicAccess", "ami_users"}, nil},
		"AMIs abroad":          {abroad, images, nil, give{"ami_groups": all, "ami_regions": []any{abroad}}, []string{"ami_groups", "us-east-1"}, nil},
		"AMIs, not public":     {"eu-west-1", images, nil, give{"ami_users": []any{"222222222222"}, "snapshot_groups": all}, nil, nil},
		"AMIs elsewhere":       {abroad, images, nil, give{"ami_groups": all}, nil, nil},
		"AMIs, no image here":  {"eu-west-1", images, nil, give{"ami_groups": all, "ami_regions": []any{abroad}, "skip_save_build_region": true}, nil, nil},
		"AMIs, not told":       {"eu-west-1", images, questions, give{"ami_groups": all}, nil, []string{"OperationNotPermitted", "ami_groups", "ec2:DisableImageBlockPublicAccess"}},
		"snapshots":            {"eu-west-1", snapshots, nil, give{"snapshot_groups": all}, []string{`snapshot_groups is ["all"]`, "Block public access for snapshots", "block-all-sharing", "ec2:DisableSnapshotBlockPublicAccess", "snapshot_users"}, nil},
		"snapshots, AMIs only": {"eu-west-1", snapshots, nil, give{"ami_groups": all}, nil, nil},
		"snapshots, not told":  {"eu-west-1", snapshots, questions, give{"snapshot_groups": all}, nil, []string{"OperationNotPermitted", "snapshot_groups", "ec2:DisableSnapshotBlockPublicAccess"}},
		"the quota":            {"eu-west-1", quota, nil, give{"ami_groups": all}, nil, []string{"ResourceLimitExceeded", "public AMIs", "eu-west-1", "Service Quotas"}},
	} {
		t.Run(name, func(t *testing.T) {
			tc := newTestCloud(t, state.Instant())
			open := state.PermissionChange{Add: state.Permissions{Public: true}}
			if _, err := tc.state.ShareImage(account, tc.source, open, false); err != nil {
				t.Fatal(err)
			}
			tc.set(t, row.region, row.settings)
			tc.deny(row.denied...)
			got := tc.share(t, merge(give{"source_ami": tc.sourceWith(t, unencrypted), "region": "eu-west-1"}, row.give))
			refused(t, "Publication", got.checked, row.checked)
			refused(t, "the publishing", got.published, row.published)
		})
	}
}

// TestPolicyThatBlocks checks the advice about a setting that a declarative policy manages,
// which cannot be turned off in the account.
func TestPolicyThatBlocks(t *testing.T) {
	s := &fake{actions: map[string]action{
		"GetImageBlockPublicAccessState": answer("GetImageBlockPublicAccessState",
			"<imageBlockPublicAccessState>block-new-sharing</imageBlockPublicAccessState><managedBy>declarative-policy</managedBy>"),
	}}
	_, _, err := planned(t, s, Config{PublishConfig: PublishConfig{AMIGroups: []string{"all"}}}, plainSource(plain))
	says(t, err, "ami_groups", "declarative policy")
	if strings.Contains(err.Error(), "ec2:DisableImageBlockPublicAccess") {
		t.Errorf("the account cannot do that: %v", err)
	}
}

// TestHiddenSource checks that the error about an AMI that was not found names the Allowed
// AMIs setting if the account uses it, whichever way the AMI is looked up.
func TestHiddenSource(t *testing.T) {
	byFilter := Config{SourceConfig: SourceConfig{SourceAMIFilter: SourceFilterConfig{Filters: map[string]string{"name": "theirs"}, Owners: []string{"222222222222"}}}}
	pinned := byFilter
	for name, test := range map[string]struct {
		set  func(*state.Settings)
		deny []string
		hint []string
	}{
		"disabled":     {func(*state.Settings) {}, nil, nil},
		"audit mode":   {func(s *state.Settings) { s.AllowedImages = state.AuditMode }, nil, nil},
		"enabled":      {func(s *state.Settings) { s.AllowedImages = state.Enabled }, nil, []string{"Allowed AMIs is enabled in eu-west-1", "ec2:ReplaceImageCriteriaInAllowedImagesSettings"}},
		"of providers": {func(s *state.Settings) { s.AllowedImages, s.AllowedProviders = state.Enabled, []string{"amazon"} }, nil, []string{"Allowed AMIs", "image providers: amazon"}},
		"not told":     {func(s *state.Settings) { s.AllowedImages = state.Enabled }, []string{"GetAllowedImagesSettings"}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			tc := newTestCloud(t, state.Instant())
			id, seen := tc.foreign(t), test.hint == nil && test.deny == nil
			pinned.SourceAMI = id
			tc.set(t, account.Region, test.set)
			tc.deny(test.deny...)
			for way, opts := range map[string]Config{"id": {SourceConfig: SourceConfig{SourceAMI: id}}, "filter": byFilter, "both": pinned} {
				_, err := tc.cloud(t, opts).Source(context.Background())
				if seen != (err == nil) {
					t.Errorf("by %s: %v, want it found: %t", way, err, seen)
				}
				if !seen {
					says(t, err, append([]string{"eu-west-1"}, test.hint...)...)
				}
				if err != nil && test.hint == nil && strings.Contains(err.Error(), "Allowed") {
					t.Errorf("by %s: a hint that is not known to be right: %v", way, err)
				}
			}
		})
	}
}

// foreign makes a public image of another account.
func (tc *testCloud) foreign(t *testing.T) string {
	t.Helper()
	them := state.Caller{Account: "222222222222", Region: account.Region}
	v, err := tc.state.CreateVolume(them, state.VolumeRequest{Zone: "eu-west-1a", SizeGiB: 1, Type: "gp2", IDDigits: 17})
	if err != nil {
		t.Fatal(err)
	}
	s, err := tc.state.CreateSnapshot(them, state.SnapshotRequest{VolumeID: v.ID, IDDigits: 17})
	if err != nil {
		t.Fatal(err)
	}
	i, err := tc.state.CreateImage(them, state.ImageRequest{
		Name: "theirs", IDDigits: 17, Mappings: []state.Mapping{{Device: "/dev/xvda", Volume: &state.MappedVolume{SnapshotID: s.ID}}},
		Attributes: state.ImageAttributes{Architecture: string(hostArchitecture()), Virtualization: "hvm", RootDevice: "/dev/xvda"},
	})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := tc.state.ShareImage(them, i.ID, state.PermissionChange{Add: state.Permissions{Public: true}}, false); err != nil {
		t.Fatal(err)
	}
	return i.ID
}

// TestRefusalsToShare checks that a refusal by EC2 names the option and the remedy.
func TestRefusalsToShare(t *testing.T) {
	for name, test := range map[string]struct {
		action, code string
		want         []string
	}{
		"a managed key":           {"ModifyImageAttribute", "InvalidParameter", []string{"ami_users", "alias/aws/ebs of eu-west-1", "root_volume_kms_key_id", "region_kms_key_ids"}},
		"encrypted and public":    {"ModifyImageAttribute", "UnsupportedOperation", []string{"ami_groups", "without encryption"}},
		"blocked":                 {"ModifyImageAttribute", "OperationNotPermitted", []string{"Block public access for AMIs", "eu-west-1"}},
		"the quota":               {"ModifyImageAttribute", "ResourceLimitExceeded", []string{"public AMIs", "Service Quotas"}},
		"a managed key, snapshot": {"ModifySnapshotAttribute", "OperationNotPermitted", []string{"snapshot_users", "alias/aws/ebs", "snapshot_groups", "Block public access for snapshots"}},
		"public, snapshot":        {"ModifySnapshotAttribute", "UnsupportedOperation", []string{"snapshot_groups", "without encryption"}},
	} {
		t.Run(name, func(t *testing.T) {
			s := publisher()
			s.actions[test.action] = refuse(test.code)
			err := faked(t, s, everything()).Publish(context.Background(), bake.PublishSpec{Image: "ami-1", Snapshots: []bake.SnapshotID{"snap-1"}})
			says(t, err, append(test.want, test.code)...)
			if strings.Contains(err.Error(), "its owner has not shared it") {
				t.Errorf("the owner is the account: %v", err)
			}
		})
	}
}
