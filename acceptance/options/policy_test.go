package options

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

	"github.com/packer-chroot/packer-plugin-chroot/acceptance/harness"
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
	sections := strings.Split(harness.Read(filepath.Join(harness.Programs.Repo, "docs", page)), "\n## ")
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

// everyBuild is the heading of the permissions that all builds need.
const everyBuild = "Every build"

// directBuild is the heading of the permissions of builds without an instance, and directKeys that of their keys.
const (
	directBuild = "Building without an instance"
	directKeys  = "Encryption without an instance"
)

// permitted is a build that needs only the permissions under some headings of a page.
type permitted struct {
	name string
	// needs are the headings besides everyBuild's. A heading of directBuild takes its place.
	needs []string
	// build calls forget after calls that are not part of the build.
	build func(b *harness.Box)
}

// keyring is a page of policies and the permissions of its cloud.
type keyring struct {
	page string
	// prefixes of the actions, by loopcloud's dialect.
	prefixes map[string]string
	// implied are permissions that go with a call, and have none of their own.
	implied map[string]string
	// beyond is the prefix of the calls that the cloud makes in the caller's name and does not record.
	beyond string
}

// used are the permissions that calls need.
func (k keyring) used(calls []harness.Call) []string {
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

// proves runs the builds. It fails if one makes a call that its headings do not allow, or if a heading allows an action
// that no build calls.
func (k keyring) proves(t *testing.T, b *harness.Box, builds []permitted) {
	t.Helper()
	page := policies(t, k.page)
	unused := map[string][]string{}
	for heading, statements := range page {
		unused[heading] = slices.DeleteFunc(actions(statements), func(a string) bool { return k.beyond != "" && strings.HasPrefix(a, k.beyond) })
	}
	for _, p := range builds {
		t.Run(p.name, func(t *testing.T) {
			b := b.In(t)
			b.Calls()
			p.build(b)
			used := k.used(b.Calls())
			allowed := map[string]bool{}
			headings := p.needs
			if !slices.Contains(p.needs, directBuild) {
				headings = append([]string{everyBuild}, p.needs...)
			}
			for _, heading := range headings {
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
			t.Errorf("%s allows %s under %q, and none of its builds calls it", k.page, action, heading)
		}
	}
}

// forget drops the record of calls so far.
func forget(b *harness.Box) { b.Calls() }

// refuse has the cloud refuse an action, as one that no policy allows.
func refuse(b *harness.Box, action, message string) {
	b.Helper()
	b.Control(http.MethodPost, "faults", harness.O{"action": action, "times": 1, "status": 403, "code": "UnauthorizedOperation", "message": message}, nil)
}

// TestAmazonPolicy checks that the policies of the docs allow the calls that builds of every
// kind make, and no others.
func TestAmazonPolicy(t *testing.T) {
	harness.NeedRoot(t)
	t.Parallel()
	k := keyring{
		page: "iam-policy.md", prefixes: map[string]string{"ec2": "ec2:", "sts": "sts:", "kms": "kms:", "ebs": "ebs:"}, beyond: "kms:",
		implied: map[string]string{
			"ec2:CreateVolume": "ec2:CreateTags", "ec2:CreateSnapshot": "ec2:CreateTags", "ec2:RegisterImage": "ec2:CreateTags", "ec2:CopyImage": "ec2:CreateTags",
			"sts:AssumeRole": "sts:TagSession", "ebs:StartSnapshot": "ec2:CreateTags",
		},
	}
	b := harness.New(t, "--key", harness.OtherKeyID+":"+harness.Secret+":"+harness.OtherAccount)
	k.proves(t, b, slices.Concat(plainBuilds(), featuredBuilds(), askingBuilds(), undoneBuilds(), directBuilds()))
}

// building is a build of amazon-chroot that succeeds.
func building(name string, options harness.O) func(b *harness.Box) {
	return func(b *harness.Box) {
		b.Helper()
		b.Build(ours(b, name, options))
	}
}

// ours is a template of amazon-chroot.
func ours(b *harness.Box, name string, options harness.O) string {
	b.Helper()
	all := harness.O{"ami_name": name}
	maps.Copy(all, options)
	return b.Template(harness.Flavors[0].Basic(all), harness.Shell("true"))
}

// plainBuilds are builds without further permissions.
func plainBuilds() []permitted {
	return []permitted{
		{"basic", nil, building("basic", harness.O{"tags": harness.O{"a": "b"}, "snapshot_tags": harness.O{"a": "b"}, "root_volume_tags": harness.O{"a": "b"}})},
		{"source_ami_filter", nil, building("filter", harness.O{"source_ami": nil, "source_ami_filter": harness.O{"owners": []string{"self"}, "filters": harness.O{"name": "busybox"}}})},
		{"a source that boots by UEFI", nil, func(b *harness.Box) {
			keyed := b.SecureBootImage("with keys")
			forget(b)
			b.Build(ours(b, "secured", harness.O{"source_ami": keyed}))
		}},
		{"a source and its snapshot as a further device", nil, func(b *harness.Box) {
			device := harness.O{"device_name": "/dev/sdh", "snapshot_id": b.SourceSnapshot()}
			forget(b)
			b.Build(ours(b, "devices", harness.O{"ami_block_device_mappings": []harness.O{device}}))
		}},
		{"from_scratch", nil, func(b *harness.Box) {
			b.Build(b.Template(scratch(harness.O{"type": "amazon-chroot", "ami_name": "scratch", "root_volume_size": 1}),
				harness.O{"type": "shell-local", "inline": []string{"cp -a " + harness.Programs.Root + "/. {{build `MountPath`}}/"}}))
		}},
		{"force_delete_snapshot of nothing", nil, building("unreplaced", harness.O{"force_deregister": true, "force_delete_snapshot": true})},
		{"a build that fails", nil, func(b *harness.Box) {
			refuse(b, "RegisterImage", "no")
			b.Fails(ours(b, "refused", nil), "ec2:RegisterImage")
		}},
		{"a build that is killed, and reaped", nil, func(b *harness.Box) {
			b.KillAt(harness.Flavors[0], harness.After("RegisterImage"), harness.KillEverything)
			if all, status := b.Reap(harness.Flavors[0]); status != 0 || len(all) != 1 {
				b.Errorf("status %d, %+v", status, all)
			}
		}},
	}
}

// featuredBuilds are builds that need the permissions of one feature each.
func featuredBuilds() []permitted {
	const there = "us-east-1"
	soon := time.Now().AddDate(1, 0, 0).UTC().Format(time.RFC3339)
	return []permitted{
		{"ami_regions", []string{"Copies"}, building("copied", harness.O{"ami_regions": []string{there}, "tags": harness.O{"a": "b"}})},
		{"skip_save_build_region", []string{"Copies"}, building("elsewhere", harness.O{"ami_regions": []string{there}, "skip_save_build_region": true})},
		{"encrypted copies", []string{"Copies", "Encryption"}, building("keyed", harness.O{
			"encrypt_boot": true, "kms_key_id": "alias/images", "ami_regions": []string{there}, "region_kms_key_ids": harness.O{there: "alias/images"},
		})},
		{"encrypt_boot", []string{"Encryption"}, building("encrypted", harness.O{"encrypt_boot": true})},
		{"root_volume_encrypt_boot", []string{"Encryption"}, building("encrypted root", harness.O{"root_volume_encrypt_boot": true, "root_volume_kms_key_id": "alias/images"})},
		{"sharing", []string{"Sharing"}, building("shared", harness.O{
			"ami_users": []string{account}, "ami_org_arns": []string{org}, "ami_ou_arns": []string{unit}, "snapshot_users": []string{account},
		})},
		{"ami_product_codes", []string{"Sharing"}, building("sold", harness.O{"ami_product_codes": []string{"abc"}})},
		{"deprecate_at", []string{"Deprecation"}, building("deprecated", harness.O{"deprecate_at": soon})},
		{"deregistration_protection", []string{"Deregistration protection"}, building("protected", harness.O{"deregistration_protection": harness.O{"enabled": true}})},
		{"force_deregister", []string{"Replacing an image"}, func(b *harness.Box) {
			b.Build(ours(b, "again", nil))
			forget(b)
			b.Build(ours(b, "again", harness.O{"force_deregister": true, "force_delete_snapshot": true}))
		}},
		{"assume_role", []string{"Assuming a role"}, building("assumed", harness.O{
			"access_key": harness.KeyID, "secret_key": harness.Secret, "assume_role": harness.O{"role_arn": role, "session_name": "packer", "tags": harness.O{"team": "a"}},
		})},
	}
}

// askingBuilds read settings of the account, and do without them if they may not.
func askingBuilds() []permitted {
	const there = "us-east-1"
	asking := []string{"Sharing", "Account settings"}
	users := harness.O{"ami_users": []string{account}, "snapshot_users": []string{account}}
	with := func(more harness.O) harness.O {
		all := maps.Clone(users)
		maps.Copy(all, more)
		return all
	}
	public := harness.O{"ami_groups": []string{"all"}, "snapshot_groups": []string{"all"}}
	return []permitted{
		{"copies that are shared", append(asking, "Copies"), building("shared copies", with(harness.O{"ami_regions": []string{there}}))},
		{"the default key, shared", append(asking, "Encryption"), func(b *harness.Box) {
			b.Fails(ours(b, "default key", with(harness.O{"root_volume_encrypt_boot": true})), "root_volume_encrypt_boot is true")
		}},
		{"a source with a key, shared", append(asking, "Encryption"), func(b *harness.Box) {
			b.Build(ours(b, "base", harness.O{"root_volume_kms_key_id": "alias/images"}))
			source := aws.ToString(named(b, harness.Region, "base").ImageId)
			forget(b)
			b.Build(ours(b, "on the base", with(harness.O{"source_ami": source})))
		}},
		{"public", asking, building("public", public)},
		{"public, and no answer", asking, func(b *harness.Box) {
			for _, action := range []string{"GetImageBlockPublicAccessState", "GetSnapshotBlockPublicAccessState"} {
				refuse(b, action, "no")
			}
			b.Build(ours(b, "public unasked", public))
		}},
		{"a source that is not found", []string{"Account settings"}, func(b *harness.Box) {
			b.Fails(ours(b, "of nothing", harness.O{"source_ami": "ami-00000000000000bad"}), "not found")
		}},
	}
}

// undoneBuilds are builds that fail and undo the effects of features.
func undoneBuilds() []permitted {
	soon := time.Now().AddDate(1, 0, 0).UTC().Format(time.RFC3339)
	return []permitted{
		{"protection that is undone", []string{"Deregistration protection"}, func(b *harness.Box) {
			b.Control(http.MethodPost, "faults", harness.O{"action": "EnableImageDeregistrationProtection", "drop": "after"}, nil)
			b.Fails(ours(b, "unprotected", harness.O{"deregistration_protection": harness.O{"enabled": true}, "max_retries": 1}), "deregistration_protection")
			b.Control(http.MethodDelete, "faults", nil, nil)
		}},
		{"a replaced image that comes back", []string{"Replacing an image"}, func(b *harness.Box) {
			b.Build(ours(b, "returns", harness.O{"ami_users": []string{account}, "deprecate_at": soon}))
			forget(b)
			refuse(b, "RegisterImage", "no")
			b.Fails(ours(b, "returns", harness.O{"force_deregister": true}), "ec2:RegisterImage")
		}},
		{"decode_authorization_messages", []string{"Decoding authorization messages"}, func(b *harness.Box) {
			refuse(b, "CreateVolume", encodedRefusal)
			b.Fails(ours(b, "decoded", harness.O{"decode_authorization_messages": true}), "user/ci may not ec2:CreateVolume")
		}},
	}
}

// directBuilds are builds without an instance.
func directBuilds() []permitted {
	needs := []string{directBuild}
	build := func(name string, options harness.O) func(b *harness.Box) {
		all := harness.O{"ebs_direct": true}
		maps.Copy(all, options)
		return building(name, all)
	}
	return []permitted{
		{"ebs_direct", needs, build("direct", harness.O{"tags": harness.O{"a": "b"}})},
		{"ebs_direct, from_scratch", needs, func(b *harness.Box) {
			b.Build(b.Template(scratch(harness.O{"type": "amazon-chroot", "ami_name": "direct scratch", "root_volume_size": 1, "ebs_direct": true}),
				harness.O{"type": "shell-local", "inline": []string{"cp -a " + harness.Programs.Root + "/. {{build `MountPath`}}/"}}))
		}},
		{"ebs_direct, a public source", needs, func(b *harness.Box) {
			public := b.ForeignImage("public", true)
			forget(b)
			build("direct of public", harness.O{"source_ami": public, "keep_source_copy": false})(b)
		}},
		{"ebs_direct, a source that boots by UEFI", needs, func(b *harness.Box) {
			keyed := b.SecureBootImage("with keys for direct")
			forget(b)
			build("direct secured", harness.O{"source_ami": keyed})(b)
		}},
		{"ebs_direct, encrypted", []string{directBuild, directKeys, "Account settings"}, build("direct encrypted", harness.O{"root_volume_kms_key_id": "alias/images"})},
		{"ebs_direct, copied", []string{directBuild, "Copies"}, build("direct copied", harness.O{"ami_regions": []string{"us-east-1"}})},
		{"a direct build that fails", needs, func(b *harness.Box) {
			refuse(b, "RegisterImage", "no")
			b.Fails(ours(b, "direct refused", harness.O{"ebs_direct": true}), "ec2:RegisterImage")
		}},
		{"a direct build that is killed, and reaped", needs, func(b *harness.Box) {
			b.KillAt(harness.Direct, harness.After("RegisterImage"), harness.KillEverything)
			if all, status := b.Reap(harness.Direct); status != 0 || len(all) != 1 {
				b.Errorf("status %d, %+v", status, all)
			}
		}},
	}
}

// encodedRefusal is a refusal of EC2 that STS can decode.
var encodedRefusal = "You are not authorized to perform this operation. Encoded authorization failure message: " +
	base64.StdEncoding.EncodeToString([]byte(`{"explicitDeny": true, "context": {"principal": {"arn": "arn:aws:iam::123456789012:user/ci"},
		"action": "ec2:CreateVolume", "resource": "arn:aws:ec2:eu-west-2:123456789012:volume/*"}}`))

// uefiData are the UEFI variables of an image, in base64.
func uefiData(b *harness.Box, image string) string {
	b.Helper()
	out, err := b.Client().DescribeImageAttribute(context.Background(), &ec2.DescribeImageAttributeInput{
		ImageId: aws.String(image), Attribute: types.ImageAttributeNameUefiData,
	})
	b.Must(err)
	return aws.ToString(out.UefiData.Value)
}

// called is the id of the image of a name.
func called(b *harness.Box, name string) string {
	b.Helper()
	for _, img := range b.Images() {
		if img.Name == name {
			return img.ID
		}
	}
	b.Fatalf("there is no image %q", name)
	return ""
}

// TestAmazonSecureBootIsNotLost checks that an image keeps the UEFI variables and the TPM of
// its source. If the policy lacks the permission to read the UEFI variables of the account's
// own source image, the build fails before anything is created, unless the template says that
// the image needs none.
func TestAmazonSecureBootIsNotLost(t *testing.T) {
	harness.NeedRoot(t)
	t.Parallel()
	b := harness.New(t)
	keyed := b.SecureBootImage("with keys")
	b.Build(ours(b, "secured", harness.O{"source_ami": keyed}))
	made := called(b, "secured")
	harness.Want(b, "UEFI variables", uefiData(b, made), harness.UefiVariables)
	harness.Want(b, "TPM", b.Describe(made).TpmSupport, types.TpmSupportValuesV20)
	b.Control(http.MethodPost, "faults", harness.O{"action": "DescribeImageAttribute", "status": 403, "code": "UnauthorizedOperation", "message": "no"}, nil)
	forget(b)
	b.Fails(ours(b, "refused", harness.O{"source_ami": keyed}), "ec2:DescribeImageAttribute", "Secure Boot", "uefi_data")
	for _, c := range b.Calls() {
		if strings.HasPrefix(c.Action, "Create") || strings.HasPrefix(c.Action, "Register") {
			t.Errorf("%s was called", c.Action)
		}
	}
	b.Build(ours(b, "without", harness.O{"source_ami": keyed, "uefi_data": "none"}))
	b.Control(http.MethodDelete, "faults", nil, nil)
	harness.Want(b, "UEFI variables", uefiData(b, called(b, "without")), "")
}

// TestAmazonPolicyOfKeys checks that the KMS permissions which EBS uses in the caller's name may be used by EC2 only.
// Source: https://docs.aws.amazon.com/ebs/latest/userguide/ebs-encryption-requirements.html
func TestAmazonPolicyOfKeys(t *testing.T) {
	harness.NeedRoot(t)
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
			if heading == directKeys {
				continue // AWS documents no service by which EBS calls KMS
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

// TestAmazonPolicyOfTags checks that tags are given at creation, by the calls that builds
// make, and by no other.
func TestAmazonPolicyOfTags(t *testing.T) {
	harness.NeedRoot(t)
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
	harness.NeedRoot(t)
	t.Parallel()
	b := newOutscaleBox(t)
	shut := b.ForeignImage("shut", false)
	build := func(more opts) func(b *harness.Box) {
		return func(b *harness.Box) { b.Build(b.Template(harness.Flavors[1].Basic(more), harness.Shell("true"))) }
	}
	keyring{page: "eim-policy-osc.md", prefixes: map[string]string{"oapi": "api:"}}.proves(t, b, []permitted{
		{"basic", nil, build(opts{"omi_name": "basic", "tags": opts{"a": "b"}})},
		{"skip_region_validation", nil, build(opts{"omi_name": "unvalidated", "skip_region_validation": true})},
		{"an OMI whose snapshots are not shared", nil, build(opts{"omi_name": "of shut", "source_omi": shut})},
		{"a build that fails", nil, func(b *harness.Box) {
			refuse(b, "CreateImage", "no")
			b.Fails(b.Template(harness.Flavors[1].Basic(opts{"omi_name": "refused"}), harness.Shell("true")), "no")
		}},
		{"a build that is killed, and reaped", nil, func(b *harness.Box) {
			b.KillAt(harness.Flavors[1], harness.After("RegisterImage"), harness.KillEverything)
			if all, status := b.Reap(harness.Flavors[1]); status != 0 || len(all) != 1 {
				b.Errorf("status %d, %+v", status, all)
			}
		}},
		{"sharing", []string{"Sharing"}, build(opts{"omi_name": "again", "omi_account_ids": []string{harness.OtherAccount}, "snapshot_users": []string{harness.OtherAccount}})},
		{"force_deregister", nil, func(b *harness.Box) {
			build(opts{"omi_name": "replaced"})(b)
			forget(b)
			build(opts{"omi_name": "replaced", "force_deregister": true, "force_delete_snapshot": true})(b)
		}},
	})
}
