package acceptance

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"maps"
	"net/http"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"
)

// statement is one of a policy's.
type statement struct {
	Action    []string
	Condition map[string]map[string]any
}

// policyBlock is the policy below a heading of a page.
var policyBlock = regexp.MustCompile("(?s)```json\n(.*?)```")

// policies reads the policies of a page, by their headings.
func policies(t *testing.T, page string) map[string][]statement {
	t.Helper()
	all := map[string][]statement{}
	sections := strings.Split(read(filepath.Join(programs.repo, "docs", page)), "\n## ")
	for _, section := range sections[1:] {
		heading, text, _ := strings.Cut(section, "\n")
		found := policyBlock.FindAllStringSubmatch(text, -1)
		if len(found) != 1 {
			t.Fatalf("%s has %d policies under %q", page, len(found), heading)
		}
		var policy struct{ Statement []statement }
		if err := json.Unmarshal([]byte(found[0][1]), &policy); err != nil || len(policy.Statement) == 0 {
			t.Fatalf("%s, %s: %v in %s", page, heading, err, found[0][1])
		}
		all[heading] = policy.Statement
	}
	return all
}

// actions are those that statements allow.
func actions(statements []statement) []string {
	var all []string
	for _, s := range statements {
		all = append(all, s.Action...)
	}
	return all
}

// everyBuild is the heading of what no build can do without.
const everyBuild = "Every build"

// A permitted build is made with what some headings of a page allow.
type permitted struct {
	name string
	// needs are the headings besides everyBuild's.
	needs []string
	// build calls forget for what was called before, and is not meant.
	build func(b *box)
}

// A keyring is a page of policies and what is known of the cloud that they are for.
type keyring struct {
	page string
	// prefixes of the actions, by loopcloud's dialect.
	prefixes map[string]string
	// implied are permissions that go with a call, and have none of their own.
	implied map[string]string
	// beyond is the prefix of what the cloud itself does in the caller's name; the
	// record of calls does not tell of that.
	beyond string
}

// used are the permissions that calls need.
func (k keyring) used(calls []call) []string {
	var all []string
	for _, c := range calls {
		prefix, known := k.prefixes[c.Dialect]
		if !known {
			continue
		}
		all = append(all, prefix+c.Action)
		if more, ok := k.implied[prefix+c.Action]; ok {
			all = append(all, more)
		}
	}
	slices.Sort(all)
	return slices.Compact(all)
}

// proves makes the builds, and fails if one calls what its headings do not allow, or
// if a heading allows what none of its builds calls.
func (k keyring) proves(b *box, builds []permitted) {
	b.t.Helper()
	outer := b.t
	page := policies(outer.(*testing.T), k.page)
	unused := map[string][]string{}
	for heading, statements := range page {
		unused[heading] = slices.DeleteFunc(actions(statements), func(a string) bool { return k.beyond != "" && strings.HasPrefix(a, k.beyond) })
	}
	for _, p := range builds {
		outer.(*testing.T).Run(p.name, func(t *testing.T) {
			b.t = t
			defer func() { b.t = outer }()
			b.calls()
			p.build(b)
			used := k.used(b.calls())
			allowed := map[string]bool{}
			for _, heading := range append([]string{everyBuild}, p.needs...) {
				if page[heading] == nil {
					t.Fatalf("%s has no %q", k.page, heading)
				}
				for _, action := range actions(page[heading]) {
					allowed[action] = true
				}
				unused[heading] = slices.DeleteFunc(unused[heading], func(a string) bool { return slices.Contains(used, a) })
			}
			for _, action := range used {
				if !allowed[action] {
					t.Errorf("%s is called, and %s does not allow it under %q", action, k.page, p.needs)
				}
			}
		})
	}
	for heading, actions := range unused {
		for _, action := range actions {
			outer.Errorf("%s allows %s under %q, and none of its builds calls it", k.page, action, heading)
		}
	}
}

// forget drops the record of calls so far.
func (b *box) forget() { b.calls() }

// refuse has the cloud refuse an action, as one that no policy allows.
func (b *box) refuse(action, message string) {
	b.t.Helper()
	b.control(http.MethodPost, "faults", o{"action": action, "times": 1, "status": 403, "code": "UnauthorizedOperation", "message": message}, nil)
}

// TestAmazonPolicy: the policies of the docs allow the calls that builds of every
// kind make, and no others.
func TestAmazonPolicy(t *testing.T) {
	needRoot(t)
	t.Parallel()
	k := keyring{
		page: "iam-policy.md", prefixes: map[string]string{"ec2": "ec2:", "sts": "sts:", "kms": "kms:"}, beyond: "kms:",
		implied: map[string]string{
			"ec2:CreateVolume": "ec2:CreateTags", "ec2:CreateSnapshot": "ec2:CreateTags", "ec2:RegisterImage": "ec2:CreateTags", "ec2:CopyImage": "ec2:CreateTags",
			"sts:AssumeRole": "sts:TagSession",
		},
	}
	k.proves(newBox(t), slices.Concat(plainBuilds(), featuredBuilds(), askingBuilds(), undoneBuilds()))
}

// building is a build of amazon-chroot that succeeds.
func building(name string, options o) func(b *box) {
	return func(b *box) {
		b.t.Helper()
		b.build(b.ours(name, options))
	}
}

// ours is a template of amazon-chroot.
func (b *box) ours(name string, options o) string {
	b.t.Helper()
	all := o{"ami_name": name}
	maps.Copy(all, options)
	return b.template(flavors[0].basic(all), shell("true"))
}

// plainBuilds need nothing but what every build does.
func plainBuilds() []permitted {
	return []permitted{
		{"basic", nil, building("basic", o{"tags": o{"a": "b"}, "snapshot_tags": o{"a": "b"}, "root_volume_tags": o{"a": "b"}})},
		{"source_ami_filter", nil, building("filter", o{"source_ami": nil, "source_ami_filter": o{"owners": []string{"self"}, "filters": o{"name": "busybox"}}})},
		{"a source that boots by UEFI", nil, func(b *box) {
			keyed := b.secured("with keys")
			b.forget()
			b.build(b.ours("secured", o{"source_ami": keyed}))
		}},
		{"a source and its snapshot as a further device", nil, func(b *box) {
			device := o{"device_name": "/dev/sdh", "snapshot_id": b.sourceSnapshot()}
			b.forget()
			b.build(b.ours("devices", o{"ami_block_device_mappings": []o{device}}))
		}},
		{"from_scratch", nil, func(b *box) {
			b.build(b.template(scratch(o{"type": "amazon-chroot", "ami_name": "scratch", "root_volume_size": 1}),
				o{"type": "shell-local", "inline": []string{"cp -a " + programs.root + "/. {{build `MountPath`}}/"}}))
		}},
		{"force_delete_snapshot of nothing", nil, building("unreplaced", o{"force_deregister": true, "force_delete_snapshot": true})},
		{"a build that fails", nil, func(b *box) {
			b.refuse("RegisterImage", "no")
			b.fails(b.ours("refused", nil), "ec2:RegisterImage")
		}},
		{"a build that is killed, and reaped", nil, func(b *box) {
			b.killAt(flavors[0], moment{"RegisterImage", "after"}, everybody)
			if all, status := b.reap(flavors[0]); status != 0 || len(all) != 1 {
				b.t.Errorf("status %d, %+v", status, all)
			}
		}},
	}
}

// featuredBuilds need what one feature of theirs does.
func featuredBuilds() []permitted {
	const there = "us-east-1"
	soon := time.Now().AddDate(1, 0, 0).UTC().Format(time.RFC3339)
	return []permitted{
		{"ami_regions", []string{"Copies"}, building("copied", o{"ami_regions": []string{there}, "tags": o{"a": "b"}})},
		{"skip_save_build_region", []string{"Copies"}, building("elsewhere", o{"ami_regions": []string{there}, "skip_save_build_region": true})},
		{"encrypted copies", []string{"Copies", "Encryption"}, building("keyed", o{
			"encrypt_boot": true, "kms_key_id": "alias/images", "ami_regions": []string{there}, "region_kms_key_ids": o{there: "alias/images"},
		})},
		{"encrypt_boot", []string{"Encryption"}, building("encrypted", o{"encrypt_boot": true})},
		{"root_volume_encrypt_boot", []string{"Encryption"}, building("encrypted root", o{"root_volume_encrypt_boot": true, "root_volume_kms_key_id": "alias/images"})},
		{"sharing", []string{"Sharing"}, building("shared", o{
			"ami_users": []string{account}, "ami_org_arns": []string{org}, "ami_ou_arns": []string{unit}, "snapshot_users": []string{account},
		})},
		{"ami_product_codes", []string{"Sharing"}, building("sold", o{"ami_product_codes": []string{"abc"}})},
		{"deprecate_at", []string{"Deprecation"}, building("deprecated", o{"deprecate_at": soon})},
		{"deregistration_protection", []string{"Deregistration protection"}, building("protected", o{"deregistration_protection": o{"enabled": true}})},
		{"force_deregister", []string{"Replacing an image"}, func(b *box) {
			b.build(b.ours("again", nil))
			b.forget()
			b.build(b.ours("again", o{"force_deregister": true, "force_delete_snapshot": true}))
		}},
		{"assume_role", []string{"Assuming a role"}, building("assumed", o{
			"access_key": keyID, "secret_key": secret, "assume_role": o{"role_arn": role, "session_name": "packer", "tags": o{"team": "a"}},
		})},
	}
}

// askingBuilds ask for settings of the account, and do without an answer.
func askingBuilds() []permitted {
	const there = "us-east-1"
	asking := []string{"Sharing", "Account settings"}
	users := o{"ami_users": []string{account}, "snapshot_users": []string{account}}
	with := func(more o) o {
		all := maps.Clone(users)
		maps.Copy(all, more)
		return all
	}
	public := o{"ami_groups": []string{"all"}, "snapshot_groups": []string{"all"}}
	return []permitted{
		{"copies that are shared", append(asking, "Copies"), building("shared copies", with(o{"ami_regions": []string{there}}))},
		{"the default key, shared", append(asking, "Encryption"), func(b *box) {
			b.fails(b.ours("default key", with(o{"root_volume_encrypt_boot": true})), "root_volume_encrypt_boot is true")
		}},
		{"a source with a key, shared", append(asking, "Encryption"), func(b *box) {
			b.build(b.ours("base", o{"root_volume_kms_key_id": "alias/images"}))
			source := aws.ToString(b.named(region, "base").ImageId)
			b.forget()
			b.build(b.ours("on the base", with(o{"source_ami": source})))
		}},
		{"public", asking, building("public", public)},
		{"public, and no answer", asking, func(b *box) {
			for _, action := range []string{"GetImageBlockPublicAccessState", "GetSnapshotBlockPublicAccessState"} {
				b.refuse(action, "no")
			}
			b.build(b.ours("public unasked", public))
		}},
		{"a source that is not found", []string{"Account settings"}, func(b *box) {
			b.fails(b.ours("of nothing", o{"source_ami": "ami-00000000000000bad"}), "not found")
		}},
	}
}

// undoneBuilds fail, and undo what features have done.
func undoneBuilds() []permitted {
	soon := time.Now().AddDate(1, 0, 0).UTC().Format(time.RFC3339)
	return []permitted{
		{"protection that is undone", []string{"Deregistration protection"}, func(b *box) {
			b.control(http.MethodPost, "faults", o{"action": "EnableImageDeregistrationProtection", "drop": "after"}, nil)
			b.fails(b.ours("unprotected", o{"deregistration_protection": o{"enabled": true}, "max_retries": 1}), "deregistration_protection")
			b.control(http.MethodDelete, "faults", nil, nil)
		}},
		{"a replaced image that comes back", []string{"Replacing an image"}, func(b *box) {
			b.build(b.ours("returns", o{"ami_users": []string{account}, "deprecate_at": soon}))
			b.forget()
			b.refuse("RegisterImage", "no")
			b.fails(b.ours("returns", o{"force_deregister": true}), "ec2:RegisterImage")
		}},
		{"decode_authorization_messages", []string{"Decoding refusals"}, func(b *box) {
			b.refuse("CreateVolume", encodedRefusal)
			b.fails(b.ours("decoded", o{"decode_authorization_messages": true}), "user/ci may not ec2:CreateVolume")
		}},
	}
}

// encodedRefusal is what EC2 says of a refusal that STS can decode.
var encodedRefusal = "You are not authorized to perform this operation. Encoded authorization failure message: " +
	base64.StdEncoding.EncodeToString([]byte(`{"explicitDeny": true, "context": {"principal": {"arn": "arn:aws:iam::123456789012:user/ci"},
		"action": "ec2:CreateVolume", "resource": "arn:aws:ec2:eu-west-2:123456789012:volume/*"}}`))

// uefiVariables are an image's, in base64.
const uefiVariables = "QU1aTlVFRkk="

// secured registers an image of the account that boots by UEFI, with a TPM and with the
// keys of Secure Boot.
func (b *box) secured(name string) string {
	b.t.Helper()
	out, err := b.client().RegisterImage(context.Background(), &ec2.RegisterImageInput{
		Name: aws.String(name), Architecture: b.image(sourceID).Architecture, VirtualizationType: aws.String("hvm"), RootDeviceName: aws.String("/dev/sda1"),
		BootMode: types.BootModeValuesUefi, TpmSupport: types.TpmSupportValuesV20, UefiData: aws.String(uefiVariables),
		BlockDeviceMappings: []types.BlockDeviceMapping{{
			DeviceName: aws.String("/dev/sda1"), Ebs: &types.EbsBlockDevice{SnapshotId: aws.String(b.sourceSnapshot())},
		}},
	})
	b.must(err)
	return aws.ToString(out.ImageId)
}

// uefiData are the UEFI variables of an image, in base64.
func (b *box) uefiData(image string) string {
	b.t.Helper()
	out, err := b.client().DescribeImageAttribute(context.Background(), &ec2.DescribeImageAttributeInput{
		ImageId: aws.String(image), Attribute: types.ImageAttributeNameUefiData,
	})
	b.must(err)
	return aws.ToString(out.UefiData.Value)
}

// called is the id of the image of a name.
func (b *box) called(name string) string {
	b.t.Helper()
	for _, img := range b.images() {
		if img.Name == name {
			return img.ID
		}
	}
	b.t.Fatalf("there is no image %q", name)
	return ""
}

// TestAmazonSecureBootIsNotLost: an image has the UEFI variables and the TPM of its
// source. A policy that lacks the permission to read the UEFI
// variables of the account's own source image fails the build before anything is
// created, unless the template says that the image needs none.
func TestAmazonSecureBootIsNotLost(t *testing.T) {
	needRoot(t)
	t.Parallel()
	b := newBox(t)
	keyed := b.secured("with keys")
	b.build(b.ours("secured", o{"source_ami": keyed}))
	made := b.called("secured")
	want(b, "UEFI variables", b.uefiData(made), uefiVariables)
	want(b, "TPM", b.image(made).TpmSupport, types.TpmSupportValuesV20)
	b.control(http.MethodPost, "faults", o{"action": "DescribeImageAttribute", "status": 403, "code": "UnauthorizedOperation", "message": "no"}, nil)
	b.forget()
	b.fails(b.ours("refused", o{"source_ami": keyed}), "ec2:DescribeImageAttribute", "Secure Boot", "uefi_data")
	for _, c := range b.calls() {
		if strings.HasPrefix(c.Action, "Create") || strings.HasPrefix(c.Action, "Register") {
			t.Errorf("%s was called", c.Action)
		}
	}
	b.build(b.ours("without", o{"source_ami": keyed, "uefi_data": "none"}))
	b.control(http.MethodDelete, "faults", nil, nil)
	want(b, "UEFI variables", b.uefiData(b.called("without")), "")
}

// sourceSnapshot is the snapshot of the source image.
func (b *box) sourceSnapshot() string {
	b.t.Helper()
	return aws.ToString(b.image(sourceID).BlockDeviceMappings[0].Ebs.SnapshotId)
}

// TestAmazonPolicyOfKeys: what EBS asks of a KMS key is asked in the caller's name,
// and may be asked by EC2 alone.
// Source: https://docs.aws.amazon.com/ebs/latest/userguide/ebs-encryption-requirements.html
func TestAmazonPolicyOfKeys(t *testing.T) {
	needRoot(t)
	wanted := []string{"kms:CreateGrant", "kms:Decrypt", "kms:DescribeKey", "kms:GenerateDataKeyWithoutPlaintext", "kms:ReEncryptFrom", "kms:ReEncryptTo"}
	var allowed []string
	for heading, statements := range policies(t, "iam-policy.md") {
		for _, s := range statements {
			if !strings.HasPrefix(s.Action[0], "kms:") {
				continue
			}
			if heading == "Account settings" && slices.Equal(s.Action, []string{"kms:DescribeKey"}) && s.Condition == nil {
				continue // which the builder asks itself
			}
			allowed = append(allowed, s.Action...)
			via := []any{"ec2.*.amazonaws.com", "ec2.*.amazonaws.com.cn"}
			if heading != "Encryption" || !reflect.DeepEqual(s.Condition["StringLike"]["kms:ViaService"], via) {
				t.Errorf("%v are allowed under %q with the condition %v", s.Action, heading, s.Condition)
			}
		}
	}
	if slices.Sort(allowed); !slices.Equal(allowed, wanted) {
		t.Errorf("the page allows %v", allowed)
	}
}

// TestAmazonPolicyOfTags: tags are given at creation, by the calls that builds make,
// and by no other.
func TestAmazonPolicyOfTags(t *testing.T) {
	needRoot(t)
	for heading, wanted := range map[string][]any{
		everyBuild: {"CreateSnapshot", "CreateVolume", "RegisterImage"},
		"Copies":   {"CopyImage"},
	} {
		for _, s := range policies(t, "iam-policy.md")[heading] {
			if got := s.Condition["StringEquals"]["ec2:CreateAction"]; slices.Contains(s.Action, "ec2:CreateTags") && !reflect.DeepEqual(got, wanted) {
				t.Errorf("%q allows tags by %v, and not by %v", heading, got, wanted)
			}
		}
	}
}

// TestOSCPolicy is the same for Outscale.
func TestOSCPolicy(t *testing.T) {
	needRoot(t)
	t.Parallel()
	b := newOutscaleBox(t)
	shut := b.foreign("shut", false)
	build := func(more opts) func(b *box) {
		return func(b *box) { b.build(b.template(flavors[1].basic(more), shell("true"))) }
	}
	keyring{page: "eim-policy-osc.md", prefixes: map[string]string{"oapi": "api:"}}.proves(b, []permitted{
		{"basic", nil, build(opts{"omi_name": "basic", "tags": opts{"a": "b"}})},
		{"skip_region_validation", nil, build(opts{"omi_name": "unvalidated", "skip_region_validation": true})},
		{"an OMI whose snapshots are not shared", nil, build(opts{"omi_name": "of shut", "source_omi": shut})},
		{"a build that fails", nil, func(b *box) {
			b.refuse("CreateImage", "no")
			b.fails(b.template(flavors[1].basic(opts{"omi_name": "refused"}), shell("true")), "no")
		}},
		{"a build that is killed, and reaped", nil, func(b *box) {
			b.killAt(flavors[1], moment{"RegisterImage", "after"}, everybody)
			if all, status := b.reap(flavors[1]); status != 0 || len(all) != 1 {
				b.t.Errorf("status %d, %+v", status, all)
			}
		}},
		{"sharing", []string{"Sharing"}, build(opts{"omi_name": "again", "omi_account_ids": []string{otherAccount}, "snapshot_users": []string{otherAccount}})},
		{"force_deregister", nil, func(b *box) {
			build(opts{"omi_name": "replaced"})(b)
			b.forget()
			build(opts{"omi_name": "replaced", "force_deregister": true, "force_delete_snapshot": true})(b)
		}},
	})
}
