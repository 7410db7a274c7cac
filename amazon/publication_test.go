package amazon

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/packer-plugin-sdk/template/config"

	"github.com/packer-chroot/packer-plugin-chroot/bake"
	"github.com/packer-chroot/packer-plugin-chroot/builder"
)

// plainSource is an image with a further device; encrypted says of which kind.
func plainSource(encrypted string) string {
	return `<imageId>ami-1</imageId><name>base</name><imageState>available</imageState><architecture>` + string(hostArchitecture()) + `</architecture>
	<virtualizationType>hvm</virtualizationType><rootDeviceType>ebs</rootDeviceType><rootDeviceName>/dev/xvda</rootDeviceName>
	<blockDeviceMapping>
		<item><deviceName>/dev/xvda</deviceName><ebs><snapshotId>snap-1</snapshotId><encrypted>false</encrypted></ebs></item>
		<item><deviceName>/dev/sdf</deviceName><ebs><snapshotId>snap-2</snapshotId>` + encrypted + `</ebs></item>
		<item><deviceName>/dev/sdb</deviceName><virtualName>ephemeral0</virtualName></item>
	</blockDeviceMapping>`
}

const plain, sealed = "<encrypted>false</encrypted>", "<encrypted>true</encrypted>"

// keyK is the ARN of the key k, which the further device of plainSource(sealed) has.
const keyK = "arn:aws:kms:eu-west-1:123456789012:key/k"

// aSnapshot is a snapshot of 8 GiB.
func aSnapshot(id, state, more string) string {
	return "<snapshotId>" + id + "</snapshotId><status>" + state + "</status><volumeSize>8</volumeSize>" + more
}

// regionsKnown is EC2's list of regions.
var regionsKnown = answer("DescribeRegions", `<regionInfo>
	<item><regionName>eu-west-1</regionName><optInStatus>opt-in-not-required</optInStatus></item>
	<item><regionName>us-east-1</regionName><optInStatus>opt-in-not-required</optInStatus></item>
	<item><regionName>eu-south-1</regionName><optInStatus>opted-in</optInStatus></item>
	<item><regionName>me-south-1</regionName><optInStatus>not-opted-in</optInStatus></item>
	<item/></regionInfo>`)

// planned returns the publication of a build from the source, or from scratch, and the volume
// that is then requested.
func planned(t *testing.T, s *fake, opts Config, source string) (bake.Publication, map[string][]string, error) {
	t.Helper()
	ctx := context.Background()
	s.actions["CreateVolume"] = answer("CreateVolume", "<volumeId>vol-1</volumeId>")
	if source != "" {
		s.actions["DescribeImages"] = images(source)
		opts.SourceAMI = "ami-1"
	}
	cloud := faked(t, s, opts)
	var facts bake.Facts
	if source != "" {
		found, err := cloud.Source(ctx)
		if err != nil {
			t.Fatal(err)
		}
		facts.Source = &found
	}
	p, err := cloud.Publication(ctx, facts)
	if err != nil {
		return p, nil, err
	}
	volume := spec()
	volume.Encryption, volume.Details = p.Root, p.Details
	if _, err := cloud.CreateVolume(ctx, volume); err != nil {
		t.Fatal(err)
	}
	p.Root, p.Details = bake.Encryption{}, nil // the volume shows them
	return p, s.made("CreateVolume")[0], nil
}

// Encryption takes place when the volume is created, and by a copy only for snapshots that are
// not created here.
func TestEncryption(t *testing.T) {
	own := func(c ...bake.Copy) bake.Publication { return bake.Publication{Copies: c, Passing: true} }
	abroad := func(c ...bake.Copy) bake.Publication { return bake.Publication{Copies: c} }
	tests := []struct {
		name      string
		opts      Config
		source    string
		want      bake.Publication
		encrypted string // "" for not
		key       string
	}{
		{"nothing asked", Config{}, plainSource(plain), bake.Publication{}, "", ""},
		{"encrypt_boot is false", Config{EncryptionConfig: EncryptionConfig{EncryptBoot: config.TriFalse}}, plainSource(plain), bake.Publication{}, "", ""},
		{"the root's own", Config{EncryptionConfig: EncryptionConfig{RootVolumeEncryptBoot: config.TriTrue, RootVolumeKMSKeyID: "k-root"}}, plainSource(plain), bake.Publication{}, "true", "k-root"},
		{"the root's mapping", Config{VolumeConfig: VolumeConfig{AMIBlockDeviceMappings: []BlockDevice{{BlockDevice: builder.BlockDevice{DeviceName: "xvda"}, Encrypted: true, KMSKeyID: "k-map"}}}}, plainSource(plain),
			bake.Publication{}, "true", "k-map"},
		{"encrypt_boot of what is encrypted", Config{EncryptionConfig: EncryptionConfig{EncryptBoot: config.TriTrue, KMSKeyID: "k"}}, plainSource(sealed), bake.Publication{}, "true", "k"},
		{"encrypt_boot under another key", Config{EncryptionConfig: EncryptionConfig{EncryptBoot: config.TriTrue, KMSKeyID: "other"}}, plainSource(sealed),
			own(bake.Copy{Region: "eu-west-1", Encrypted: true, KMSKeyID: "other"}), "", ""},
		{"encrypt_boot by an alias", Config{EncryptionConfig: EncryptionConfig{EncryptBoot: config.TriTrue, KMSKeyID: "alias/k"}}, plainSource(sealed),
			own(bake.Copy{Region: "eu-west-1", Encrypted: true, KMSKeyID: "alias/k"}), "", ""},
		{"encrypt_boot by the key's ARN", Config{EncryptionConfig: EncryptionConfig{EncryptBoot: config.TriTrue, KMSKeyID: keyK}}, plainSource(sealed), bake.Publication{}, "true", keyK},
		{"encrypt_boot under the default key", Config{EncryptionConfig: EncryptionConfig{EncryptBoot: config.TriTrue}}, plainSource(sealed), own(bake.Copy{Region: "eu-west-1", Encrypted: true}), "", ""},
		{"encrypt_boot from scratch", Config{Config: builder.Config{RootDeviceName: "xvda"}, EncryptionConfig: EncryptionConfig{EncryptBoot: config.TriTrue, KMSKeyID: "k"}}, "", bake.Publication{}, "true", "k"},
		{"encrypt_boot beats the root's", Config{EncryptionConfig: EncryptionConfig{EncryptBoot: config.TriTrue, KMSKeyID: "k", RootVolumeEncryptBoot: config.TriTrue, RootVolumeKMSKeyID: "k-root"}},
			plainSource(sealed), bake.Publication{}, "true", "k"},
		{"encrypt_boot of a plain device", Config{EncryptionConfig: EncryptionConfig{EncryptBoot: config.TriTrue, KMSKeyID: "k"}}, plainSource(plain),
			own(bake.Copy{Region: "eu-west-1", Encrypted: true, KMSKeyID: "k"}), "", ""},
		{"one that does not tell is plain", Config{EncryptionConfig: EncryptionConfig{EncryptBoot: config.TriTrue}}, plainSource(""), own(bake.Copy{Region: "eu-west-1", Encrypted: true}), "", ""},
		{"a plain device that goes", Config{VolumeConfig: VolumeConfig{AMIBlockDeviceMappings: []BlockDevice{{BlockDevice: builder.BlockDevice{DeviceName: "sdf", NoDevice: true}}}}, EncryptionConfig: EncryptionConfig{EncryptBoot: config.TriTrue}}, plainSource(plain),
			bake.Publication{}, "true", ""},
		{"a plain device that is copied", Config{EncryptionConfig: EncryptionConfig{EncryptBoot: config.TriTrue, RootVolumeEncryptBoot: config.TriTrue, RootVolumeKMSKeyID: "k-root"}}, plainSource(plain),
			own(bake.Copy{Region: "eu-west-1", Encrypted: true}), "true", "k-root"},
		{"a plain device of the user", Config{VolumeConfig: VolumeConfig{AMIBlockDeviceMappings: []BlockDevice{{BlockDevice: builder.BlockDevice{DeviceName: "/dev/sdf", SnapshotID: "snap-plain"}}}}, EncryptionConfig: EncryptionConfig{EncryptBoot: config.TriTrue}}, plainSource(sealed),
			own(bake.Copy{Region: "eu-west-1", Encrypted: true}), "", ""},
		{"an encrypted device of the user", Config{VolumeConfig: VolumeConfig{AMIBlockDeviceMappings: []BlockDevice{{BlockDevice: builder.BlockDevice{DeviceName: "/dev/sdf", SnapshotID: "snap-sealed"}}}}, EncryptionConfig: EncryptionConfig{EncryptBoot: config.TriTrue}}, plainSource(plain),
			own(bake.Copy{Region: "eu-west-1", Encrypted: true}), "", ""},
		{"a device of the user with the key", Config{VolumeConfig: VolumeConfig{AMIBlockDeviceMappings: []BlockDevice{{BlockDevice: builder.BlockDevice{DeviceName: "/dev/sdf", SnapshotID: "snap-2"}}}}, EncryptionConfig: EncryptionConfig{EncryptBoot: config.TriTrue, KMSKeyID: "k"}}, plainSource(plain),
			bake.Publication{}, "true", "k"},
		{"a blank device of the user", Config{VolumeConfig: VolumeConfig{AMIBlockDeviceMappings: []BlockDevice{{BlockDevice: builder.BlockDevice{DeviceName: "/dev/sdf", VolumeSize: 1}}}}, EncryptionConfig: EncryptionConfig{EncryptBoot: config.TriTrue}}, plainSource(plain),
			bake.Publication{}, "true", ""},
		{"copies of an encrypted image", Config{EncryptionConfig: EncryptionConfig{EncryptBoot: config.TriTrue, KMSKeyID: "k", RegionKMSKeyIDs: map[string]string{"us-east-1": "k-us"}}, CopyConfig: CopyConfig{AMIRegions: []string{"us-east-1", "eu-south-1"}}},
			plainSource(sealed), abroad(bake.Copy{Region: "us-east-1", Encrypted: true, KMSKeyID: "k-us"}, bake.Copy{Region: "eu-south-1", Encrypted: true}), "true", "k"},
		{"copies that alone are encrypted", Config{EncryptionConfig: EncryptionConfig{RegionKMSKeyIDs: map[string]string{"us-east-1": ""}}, CopyConfig: CopyConfig{AMIRegions: []string{"us-east-1", "eu-south-1"}}},
			plainSource(plain), abroad(bake.Copy{Region: "us-east-1", Encrypted: true}, bake.Copy{Region: "eu-south-1"}), "", ""},
		{"no image here", Config{EncryptionConfig: EncryptionConfig{EncryptBoot: config.TriTrue, KMSKeyID: "k"}, CopyConfig: CopyConfig{AMIRegions: []string{"us-east-1"}, SkipSaveBuildRegion: true}},
			plainSource(plain), own(bake.Copy{Region: "us-east-1", Encrypted: true}), "", ""},
		{"the build's region among the others", Config{EncryptionConfig: EncryptionConfig{RegionKMSKeyIDs: map[string]string{"eu-west-1": "k-eu"}}, CopyConfig: CopyConfig{AMIRegions: []string{"eu-west-1"}}},
			plainSource(sealed), own(bake.Copy{Region: "eu-west-1", Encrypted: true, KMSKeyID: "k-eu"}), "", ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := &fake{actions: map[string]action{
				"DescribeRegions": regionsKnown,
				"DescribeSnapshots": snapshots(aSnapshot("snap-plain", "completed", plain), aSnapshot("snap-sealed", "completed", sealed),
					aSnapshot("snap-2", "completed", sealed+"<kmsKeyId>"+keyK+"</kmsKeyId>")),
			}}
			got, volume, err := planned(t, s, tt.opts, tt.source)
			if err != nil {
				t.Fatal(err)
			}
			if got.Passing != tt.want.Passing || !slices.Equal(got.Copies, tt.want.Copies) {
				t.Errorf("publication %+v, want %+v", got, tt.want)
			}
			check(t, volume, map[string]string{"Encrypted": tt.encrypted, "KmsKeyId": tt.key})
		})
	}
}

func TestRegions(t *testing.T) {
	tests := []struct {
		name    string
		opts    Config
		regions action
		want    []string // of the copies
		asked   int
		words   []string // of the error
	}{
		{"none", Config{}, nil, nil, 0, nil},
		{"the build's own", Config{CopyConfig: CopyConfig{AMIRegions: []string{"eu-west-1"}}}, nil, nil, 0, nil},
		{"others", Config{CopyConfig: CopyConfig{AMIRegions: []string{"us-east-1", "eu-west-1", "eu-south-1", "us-east-1"}}}, regionsKnown, []string{"us-east-1", "eu-south-1"}, 1, nil},
		{"unasked", Config{Config: builder.Config{Sharing: builder.Sharing{SkipRegionValidation: true}}, CopyConfig: CopyConfig{AMIRegions: []string{"moon-1"}}}, nil, []string{"moon-1"}, 0, nil},
		{"unknown", Config{CopyConfig: CopyConfig{AMIRegions: []string{"moon-1", "us-east-1", "mars-1"}}}, regionsKnown, nil, 1, []string{`"moon-1"`, `"mars-1"`, "skip_region_validation"}},
		{"not enabled", Config{CopyConfig: CopyConfig{AMIRegions: []string{"me-south-1"}}}, regionsKnown, nil, 1, []string{"me-south-1", "not enabled"}},
		{"not allowed to ask", Config{CopyConfig: CopyConfig{AMIRegions: []string{"us-east-1"}}}, refuse("UnauthorizedOperation"), nil, 1, []string{"ami_regions", "UnauthorizedOperation", "skip_region_validation"}},
		{"no image anywhere", Config{CopyConfig: CopyConfig{SkipSaveBuildRegion: true}}, nil, nil, 0, []string{"skip_save_build_region", "ami_regions", "eu-west-1"}},
		{"no image but here", Config{CopyConfig: CopyConfig{SkipSaveBuildRegion: true, AMIRegions: []string{"eu-west-1"}}}, nil, nil, 0, []string{"skip_save_build_region"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := &fake{actions: map[string]action{"DescribeRegions": tt.regions}}
			got, _, err := planned(t, s, tt.opts, "")
			if n := len(s.made("DescribeRegions")); n != tt.asked {
				t.Errorf("EC2 was asked %d times, want %d", n, tt.asked)
			}
			if tt.words != nil {
				says(t, err, tt.words...)
				return
			}
			var regions []string
			for _, c := range got.Copies {
				regions = append(regions, c.Region)
			}
			if err != nil || !slices.Equal(regions, tt.want) {
				t.Errorf("copies to %v, %v; want %v", regions, err, tt.want)
			}
		})
	}
}

func TestDevicesThatEC2WouldRefuse(t *testing.T) {
	tests := []struct {
		name      string
		mapping   BlockDevice
		snapshots action
		words     []string // none: it is taken
	}{
		{"a blank one", BlockDevice{BlockDevice: builder.BlockDevice{VolumeSize: 1}, Encrypted: true}, nil, nil},
		{"of a snapshot", BlockDevice{BlockDevice: builder.BlockDevice{SnapshotID: "snap-1"}}, snapshots(aSnapshot("snap-1", "completed", plain)), nil},
		{"larger than its snapshot", BlockDevice{BlockDevice: builder.BlockDevice{SnapshotID: "snap-1", VolumeSize: 9}}, snapshots(aSnapshot("snap-1", "completed", plain)), nil},
		{"as encrypted as its snapshot", BlockDevice{BlockDevice: builder.BlockDevice{SnapshotID: "snap-1"}, Encrypted: true}, snapshots(aSnapshot("snap-1", "completed", sealed)), nil},
		{"with a key", BlockDevice{BlockDevice: builder.BlockDevice{VolumeSize: 1}, Encrypted: true, KMSKeyID: "k"}, nil, []string{"kms_key_id", `"k"`, "root device"}},
		{"smaller than its snapshot", BlockDevice{BlockDevice: builder.BlockDevice{SnapshotID: "snap-1", VolumeSize: 7}}, snapshots(aSnapshot("snap-1", "completed", plain)),
			[]string{"volume_size is 7 GiB", "snap-1 has 8 GiB"}},
		{"of an incomplete snapshot", BlockDevice{BlockDevice: builder.BlockDevice{SnapshotID: "snap-1"}}, snapshots(aSnapshot("snap-1", "pending", plain)), []string{"snap-1", `"pending"`, "completed"}},
		{"of a snapshot that does not tell", BlockDevice{BlockDevice: builder.BlockDevice{SnapshotID: "snap-1"}}, snapshots("<snapshotId>snap-1</snapshotId>"), []string{"snap-1", `""`}},
		{"more encrypted than its snapshot", BlockDevice{BlockDevice: builder.BlockDevice{SnapshotID: "snap-1"}, Encrypted: true}, snapshots(aSnapshot("snap-1", "completed", plain)),
			[]string{"encrypted", "snap-1", "encrypt_boot"}},
		{"of an unknown snapshot", BlockDevice{BlockDevice: builder.BlockDevice{SnapshotID: "snap-1"}}, refuse("InvalidSnapshot.NotFound"),
			[]string{"snapshot_id is unknown in region eu-west-1", "not shared", "InvalidSnapshot.NotFound"}},
		{"of one that is not told of", BlockDevice{BlockDevice: builder.BlockDevice{SnapshotID: "snap-1"}}, snapshots(), []string{"snap-1", "not found", "eu-west-1"}},
		{"of one that may not be read", BlockDevice{BlockDevice: builder.BlockDevice{SnapshotID: "snap-1"}}, refuse("UnauthorizedOperation"), []string{"snap-1", "do not allow"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			tt.mapping.DeviceName = "/dev/sdh"
			s := &fake{actions: map[string]action{"DescribeSnapshots": tt.snapshots}}
			_, _, err := planned(t, s, Config{VolumeConfig: VolumeConfig{AMIBlockDeviceMappings: []BlockDevice{tt.mapping}}}, plainSource(sealed))
			if tt.words != nil {
				says(t, err, append(tt.words, "ami_block_device_mappings")...)
				if strings.Contains(err.Error(), "during the build") {
					t.Errorf("error %q blames the build, which has not begun", err)
				}
			} else if err != nil {
				t.Error(err)
			}
		})
	}
}

func TestSnapshotsAreReadInOneCall(t *testing.T) {
	s := &fake{actions: map[string]action{
		"DescribeSnapshots": snapshots(aSnapshot("snap-1", "completed", ""), aSnapshot("snap-2", "completed", "")),
	}}
	opts := Config{VolumeConfig: VolumeConfig{AMIBlockDeviceMappings: []BlockDevice{{BlockDevice: builder.BlockDevice{DeviceName: "sdf", SnapshotID: "snap-1"}}, {BlockDevice: builder.BlockDevice{DeviceName: "sdg", SnapshotID: "snap-2"}}}}}
	if _, _, err := planned(t, s, opts, ""); err != nil {
		t.Fatal(err)
	}
	calls := s.made("DescribeSnapshots")
	check(t, calls[0], map[string]string{"SnapshotId.1": "snap-1", "SnapshotId.2": "snap-2"})
	if len(calls) != 1 {
		t.Errorf("%d calls", len(calls))
	}
}

// Features that EC2 supports for hvm only are refused if the image will be paravirtual.
func TestParavirtualImage(t *testing.T) {
	for option, opts := range map[string]Config{
		"ena_support":   {ImageConfig: ImageConfig{ENASupport: config.TriTrue}},
		"sriov_support": {ImageConfig: ImageConfig{SRIOVSupport: true}},
		"boot_mode":     {ImageConfig: ImageConfig{BootMode: "uefi"}},
		"uefi_data":     {ImageConfig: ImageConfig{UEFIData: "QQ=="}},
		"tpm_support":   {ImageConfig: ImageConfig{TPMSupport: "v2.0"}},
		"":              {ImageConfig: ImageConfig{ENASupport: config.TriFalse, IMDSSupport: "v2.0"}},
	} {
		t.Run(option, func(t *testing.T) {
			for _, virtualization := range []string{"paravirtual", "hvm"} {
				opts.AMIVirtualizationType = virtualization
				if virtualization == "hvm" && (opts.UEFIData != "" || opts.TPMSupport != "") {
					opts.BootMode = "uefi"
				}
				_, _, err := planned(t, &fake{actions: map[string]action{}}, opts, "")
				if option != "" && virtualization == "paravirtual" {
					says(t, err, option, "paravirtual")
				} else if err != nil {
					t.Errorf("%s: %v", virtualization, err)
				}
			}
		})
	}
}

// TestOptionsForAnotherRegion checks options against a region that the template does not set:
// nothing is created, and EC2 is not even asked.
func TestOptionsForAnotherRegion(t *testing.T) {
	key := func(region string) string { return "arn:aws:kms:" + region + ":123456789012:key/1234abcd" }
	const elsewhere = " is a key of region us-east-1, but is needed in eu-west-1"
	for option, test := range map[string]struct {
		options Config
		want    string
	}{
		"own key":                {Config{EncryptionConfig: EncryptionConfig{EncryptBoot: config.TriTrue, KMSKeyID: key("eu-west-1")}}, ""},
		"kms_key_id":             {Config{EncryptionConfig: EncryptionConfig{EncryptBoot: config.TriTrue, KMSKeyID: key("us-east-1")}}, elsewhere},
		"root_volume_kms_key_id": {Config{EncryptionConfig: EncryptionConfig{RootVolumeKMSKeyID: key("us-east-1")}}, elsewhere},
		"ami_block_device_mappings[0]: kms_key_id": {
			Config{VolumeConfig: VolumeConfig{AMIBlockDeviceMappings: []BlockDevice{{
				BlockDevice: builder.BlockDevice{DeviceName: "/dev/xvda"}, Encrypted: true, KMSKeyID: key("us-east-1"),
			}}}}, elsewhere,
		},
		"ami_org_arns[0]": {Config{PublishConfig: PublishConfig{AMIOrgARNs: []string{"arn:aws-cn:organizations::1:organization/o-a"}}}, "must begin with arn:aws: in region eu-west-1"},
		"ami_regions":     {Config{CopyConfig: CopyConfig{AMIRegions: []string{"cn-north-1"}}}, "cn-north-1, which is in the partition aws-cn, but region eu-west-1"},
	} {
		t.Run(option, func(t *testing.T) {
			s := &fake{actions: map[string]action{}}
			_, err := faked(t, s, test.options).Publication(t.Context(), bake.Facts{})
			if test.want == "" {
				if err != nil {
					t.Errorf("refused: %v", err)
				}
				return
			}
			says(t, err, option, test.want)
		})
	}
}

// TestVolumeWithUnusableKey checks the error for a volume with an unusable key. Such a volume
// disappears right after its creation.
func TestVolumeWithUnusableKey(t *testing.T) {
	s := &fake{actions: map[string]action{
		"CreateVolume":    answer("CreateVolume", "<volumeId>vol-1</volumeId>"),
		"DescribeVolumes": refuse("InvalidVolume.NotFound"),
	}}
	for key, word := range map[string]string{"alias/gone": "alias/gone", "": "default key"} {
		cloud := faked(t, s, Config{})
		if _, err := cloud.CreateVolume(t.Context(), bake.VolumeSpec{Encryption: bake.Encryption{Encrypted: true, KMSKeyID: key}}); err != nil {
			t.Fatal(err)
		}
		cloud.now = func() time.Time { return time.Now().Add(visibleWithin) }
		_, err := cloud.Volume(t.Context(), "vol-1")
		says(t, err, "vol-1", "not found", word)
	}
	_, err := faked(t, s, Config{}).Volume(context.Background(), "vol-1")
	if fmt.Sprint(err) != "volume vol-1: not found" {
		t.Errorf("%v", err)
	}
}
