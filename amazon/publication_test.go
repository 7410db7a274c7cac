package amazon

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"

	"github.com/packer-chroot/packer-plugin-chroot/bake"
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

// regionsKnown is what EC2 tells of regions.
var regionsKnown = answer("DescribeRegions", `<regionInfo>
	<item><regionName>eu-west-1</regionName><optInStatus>opt-in-not-required</optInStatus></item>
	<item><regionName>us-east-1</regionName><optInStatus>opt-in-not-required</optInStatus></item>
	<item><regionName>eu-south-1</regionName><optInStatus>opted-in</optInStatus></item>
	<item><regionName>me-south-1</regionName><optInStatus>not-opted-in</optInStatus></item>
	<item/></regionInfo>`)

// planned answers the publication of a build from the source, or from scratch,
// and the volume that is asked for after it.
func planned(t *testing.T, s *fake, opts Options, source string) (bake.Publication, map[string][]string, error) {
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
	if _, err := cloud.CreateVolume(ctx, spec()); err != nil {
		t.Fatal(err)
	}
	return p, s.made("CreateVolume")[0], nil
}

// How encryption comes about: at the volume's creation, and by a copy only of
// what is not made here.
func TestEncryption(t *testing.T) {
	yes, no := aws.Bool(true), aws.Bool(false)
	own := func(c ...bake.Copy) bake.Publication { return bake.Publication{Copies: c, Passing: true} }
	abroad := func(c ...bake.Copy) bake.Publication { return bake.Publication{Copies: c} }
	tests := []struct {
		name      string
		opts      Options
		source    string
		want      bake.Publication
		encrypted string // "" for not
		key       string
	}{
		{"nothing asked", Options{}, plainSource(plain), bake.Publication{}, "", ""},
		{"encrypt_boot is false", Options{EncryptBoot: no}, plainSource(plain), bake.Publication{}, "", ""},
		{"the root's own", Options{RootVolumeEncrypt: true, RootVolumeKMSKeyID: "k-root"}, plainSource(plain), bake.Publication{}, "true", "k-root"},
		{"the root's mapping", Options{Mappings: []Mapping{{DeviceName: "xvda", Encrypted: true, KMSKeyID: "k-map"}}}, plainSource(plain),
			bake.Publication{}, "true", "k-map"},
		{"encrypt_boot of what is encrypted", Options{EncryptBoot: yes, KMSKeyID: "k"}, plainSource(sealed), bake.Publication{}, "true", "k"},
		{"encrypt_boot under another key", Options{EncryptBoot: yes, KMSKeyID: "other"}, plainSource(sealed),
			own(bake.Copy{Region: "eu-west-1", Encrypted: true, KMSKeyID: "other"}), "", ""},
		{"encrypt_boot by an alias", Options{EncryptBoot: yes, KMSKeyID: "alias/k"}, plainSource(sealed),
			own(bake.Copy{Region: "eu-west-1", Encrypted: true, KMSKeyID: "alias/k"}), "", ""},
		{"encrypt_boot by the key's ARN", Options{EncryptBoot: yes, KMSKeyID: keyK}, plainSource(sealed), bake.Publication{}, "true", keyK},
		{"encrypt_boot under the default key", Options{EncryptBoot: yes}, plainSource(sealed), own(bake.Copy{Region: "eu-west-1", Encrypted: true}), "", ""},
		{"encrypt_boot from scratch", Options{EncryptBoot: yes, KMSKeyID: "k", RootDeviceName: "xvda"}, "", bake.Publication{}, "true", "k"},
		{"encrypt_boot beats the root's", Options{EncryptBoot: yes, KMSKeyID: "k", RootVolumeEncrypt: true, RootVolumeKMSKeyID: "k-root"},
			plainSource(sealed), bake.Publication{}, "true", "k"},
		{"encrypt_boot of a plain device", Options{EncryptBoot: yes, KMSKeyID: "k"}, plainSource(plain),
			own(bake.Copy{Region: "eu-west-1", Encrypted: true, KMSKeyID: "k"}), "", ""},
		{"one that does not tell is plain", Options{EncryptBoot: yes}, plainSource(""), own(bake.Copy{Region: "eu-west-1", Encrypted: true}), "", ""},
		{"a plain device that goes", Options{EncryptBoot: yes, Mappings: []Mapping{{DeviceName: "sdf", NoDevice: true}}}, plainSource(plain),
			bake.Publication{}, "true", ""},
		{"a plain device that is copied", Options{EncryptBoot: yes, RootVolumeEncrypt: true, RootVolumeKMSKeyID: "k-root"}, plainSource(plain),
			own(bake.Copy{Region: "eu-west-1", Encrypted: true}), "true", "k-root"},
		{"a plain device of the user", Options{EncryptBoot: yes, Mappings: []Mapping{{DeviceName: "/dev/sdf", SnapshotID: "snap-plain"}}}, plainSource(sealed),
			own(bake.Copy{Region: "eu-west-1", Encrypted: true}), "", ""},
		{"an encrypted device of the user", Options{EncryptBoot: yes, Mappings: []Mapping{{DeviceName: "/dev/sdf", SnapshotID: "snap-sealed"}}}, plainSource(plain),
			own(bake.Copy{Region: "eu-west-1", Encrypted: true}), "", ""},
		{"a device of the user with the key", Options{EncryptBoot: yes, KMSKeyID: "k", Mappings: []Mapping{{DeviceName: "/dev/sdf", SnapshotID: "snap-2"}}}, plainSource(plain),
			bake.Publication{}, "true", "k"},
		{"a blank device of the user", Options{EncryptBoot: yes, Mappings: []Mapping{{DeviceName: "/dev/sdf", VolumeSizeGiB: 1}}}, plainSource(plain),
			bake.Publication{}, "true", ""},
		{"copies of an encrypted image", Options{EncryptBoot: yes, KMSKeyID: "k", Regions: []string{"us-east-1", "eu-south-1"}, RegionKMSKeyIDs: map[string]string{"us-east-1": "k-us"}},
			plainSource(sealed), abroad(bake.Copy{Region: "us-east-1", Encrypted: true, KMSKeyID: "k-us"}, bake.Copy{Region: "eu-south-1", Encrypted: true}), "true", "k"},
		{"copies that alone are encrypted", Options{Regions: []string{"us-east-1", "eu-south-1"}, RegionKMSKeyIDs: map[string]string{"us-east-1": ""}},
			plainSource(plain), abroad(bake.Copy{Region: "us-east-1", Encrypted: true}, bake.Copy{Region: "eu-south-1"}), "", ""},
		{"no image here", Options{EncryptBoot: yes, KMSKeyID: "k", Regions: []string{"us-east-1"}, SkipSaveBuildRegion: true},
			plainSource(plain), own(bake.Copy{Region: "us-east-1", Encrypted: true}), "", ""},
		{"the build's region among the others", Options{Regions: []string{"eu-west-1"}, RegionKMSKeyIDs: map[string]string{"eu-west-1": "k-eu"}},
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
		opts    Options
		regions action
		want    []string // of the copies
		asked   int
		words   []string // of the error
	}{
		{"none", Options{}, nil, nil, 0, nil},
		{"the build's own", Options{Regions: []string{"eu-west-1"}}, nil, nil, 0, nil},
		{"others", Options{Regions: []string{"us-east-1", "eu-west-1", "eu-south-1", "us-east-1"}}, regionsKnown, []string{"us-east-1", "eu-south-1"}, 1, nil},
		{"unasked", Options{Regions: []string{"moon-1"}, SkipRegionValidation: true}, nil, []string{"moon-1"}, 0, nil},
		{"unknown", Options{Regions: []string{"moon-1", "us-east-1", "mars-1"}}, regionsKnown, nil, 1, []string{`"moon-1"`, `"mars-1"`, "skip_region_validation"}},
		{"not enabled", Options{Regions: []string{"me-south-1"}}, regionsKnown, nil, 1, []string{"me-south-1", "not enabled"}},
		{"not allowed to ask", Options{Regions: []string{"us-east-1"}}, refuse("UnauthorizedOperation"), nil, 1, []string{"ami_regions", "UnauthorizedOperation", "skip_region_validation"}},
		{"no image anywhere", Options{SkipSaveBuildRegion: true}, nil, nil, 0, []string{"skip_save_build_region", "ami_regions", "eu-west-1"}},
		{"no image but here", Options{SkipSaveBuildRegion: true, Regions: []string{"eu-west-1"}}, nil, nil, 0, []string{"skip_save_build_region"}},
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
		mapping   Mapping
		snapshots action
		words     []string // none: it is taken
	}{
		{"a blank one", Mapping{VolumeSizeGiB: 1, Encrypted: true}, nil, nil},
		{"of a snapshot", Mapping{SnapshotID: "snap-1"}, snapshots(aSnapshot("snap-1", "completed", plain)), nil},
		{"larger than its snapshot", Mapping{SnapshotID: "snap-1", VolumeSizeGiB: 9}, snapshots(aSnapshot("snap-1", "completed", plain)), nil},
		{"as encrypted as its snapshot", Mapping{SnapshotID: "snap-1", Encrypted: true}, snapshots(aSnapshot("snap-1", "completed", sealed)), nil},
		{"with a key", Mapping{VolumeSizeGiB: 1, Encrypted: true, KMSKeyID: "k"}, nil, []string{"kms_key_id", `"k"`, "root device"}},
		{"smaller than its snapshot", Mapping{SnapshotID: "snap-1", VolumeSizeGiB: 7}, snapshots(aSnapshot("snap-1", "completed", plain)),
			[]string{"volume_size is 7 GiB", "snap-1 has 8 GiB"}},
		{"of an incomplete snapshot", Mapping{SnapshotID: "snap-1"}, snapshots(aSnapshot("snap-1", "pending", plain)), []string{"snap-1", `"pending"`, "completed"}},
		{"of a snapshot that does not tell", Mapping{SnapshotID: "snap-1"}, snapshots("<snapshotId>snap-1</snapshotId>"), []string{"snap-1", `""`}},
		{"more encrypted than its snapshot", Mapping{SnapshotID: "snap-1", Encrypted: true}, snapshots(aSnapshot("snap-1", "completed", plain)),
			[]string{"encrypted", "snap-1", "encrypt_boot"}},
		{"of an unknown snapshot", Mapping{SnapshotID: "snap-1"}, refuse("InvalidSnapshot.NotFound"),
			[]string{"snapshot_id is unknown in region eu-west-1", "not shared", "InvalidSnapshot.NotFound"}},
		{"of one that is not told of", Mapping{SnapshotID: "snap-1"}, snapshots(), []string{"snap-1", "not found", "eu-west-1"}},
		{"of one that may not be read", Mapping{SnapshotID: "snap-1"}, refuse("UnauthorizedOperation"), []string{"snap-1", "do not allow"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			tt.mapping.DeviceName = "/dev/sdh"
			s := &fake{actions: map[string]action{"DescribeSnapshots": tt.snapshots}}
			_, _, err := planned(t, s, Options{Mappings: []Mapping{tt.mapping}}, plainSource(sealed))
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
	opts := Options{Mappings: []Mapping{{DeviceName: "sdf", SnapshotID: "snap-1"}, {DeviceName: "sdg", SnapshotID: "snap-2"}}}
	if _, _, err := planned(t, s, opts, ""); err != nil {
		t.Fatal(err)
	}
	calls := s.made("DescribeSnapshots")
	check(t, calls[0], map[string]string{"SnapshotId.1": "snap-1", "SnapshotId.2": "snap-2"})
	if len(calls) != 1 {
		t.Errorf("%d calls", len(calls))
	}
}

// What EC2 has for hvm alone is refused where the image will be paravirtual.
func TestParavirtualImage(t *testing.T) {
	for option, opts := range map[string]Options{
		"ena_support":   {ENASupport: aws.Bool(true)},
		"sriov_support": {SRIOVSupport: true},
		"boot_mode":     {BootMode: "uefi"},
		"uefi_data":     {UEFIData: "QQ=="},
		"tpm_support":   {TPMSupport: "v2.0"},
		"":              {ENASupport: aws.Bool(false), IMDSSupport: "v2.0"},
	} {
		t.Run(option, func(t *testing.T) {
			for _, virtualization := range []string{"paravirtual", "hvm"} {
				opts.VirtualizationType = virtualization
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

// A volume whose key cannot be used is gone as soon as it is asked for.
func TestVolumeWhoseKeyIsOfNoUse(t *testing.T) {
	s := &fake{actions: map[string]action{"DescribeVolumes": refuse("InvalidVolume.NotFound")}}
	for key, word := range map[string]string{"alias/gone": "alias/gone", "": "default key"} {
		cloud := faked(t, s, Options{RootVolumeEncrypt: true, RootVolumeKMSKeyID: key})
		_, err := cloud.Volume(context.Background(), "vol-1")
		says(t, err, "vol-1", "not found", word)
	}
	_, err := faked(t, s, Options{}).Volume(context.Background(), "vol-1")
	if fmt.Sprint(err) != "volume vol-1: not found" {
		t.Errorf("%v", err)
	}
}
