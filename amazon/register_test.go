package amazon

import (
	"context"
	"errors"
	"runtime"
	"slices"
	"testing"

	"github.com/hashicorp/packer-plugin-sdk/template/config"

	"github.com/packer-chroot/packer-plugin-chroot/bake"
	"github.com/packer-chroot/packer-plugin-chroot/builder"
)

const richImage = `<imageId>ami-1</imageId><name>base</name><imageState>available</imageState>
	<architecture>arm64</architecture><virtualizationType>hvm</virtualizationType>
	<rootDeviceType>ebs</rootDeviceType><rootDeviceName>/dev/sda1</rootDeviceName>
	<enaSupport>true</enaSupport><sriovNetSupport>simple</sriovNetSupport><bootMode>uefi</bootMode>
	<tpmSupport>v2.0</tpmSupport><imdsSupport>v2.0</imdsSupport><kernelId>aki-1</kernelId><ramdiskId>ari-1</ramdiskId>
	<blockDeviceMapping>
		<item><deviceName>/dev/sdb</deviceName><virtualName>ephemeral0</virtualName></item>
		<item><deviceName>/dev/sda1</deviceName><ebs><snapshotId>snap-old</snapshotId><volumeSize>8</volumeSize><volumeType>gp3</volumeType>
			<iops>4000</iops><throughput>250</throughput><deleteOnTermination>true</deleteOnTermination><encrypted>false</encrypted></ebs></item>
		<item><deviceName>/dev/sdf</deviceName><ebs><snapshotId>snap-data</snapshotId><volumeSize>20</volumeSize><volumeType>gp2</volumeType>
			<iops>100</iops><deleteOnTermination>false</deleteOnTermination><encrypted>true</encrypted><kmsKeyId>key-1</kmsKeyId></ebs></item>
		<item><deviceName>/dev/sdg</deviceName><noDevice></noDevice></item>
	</blockDeviceMapping>`

// registering returns the request for an image of snap-new, of 10 GiB.
func registering(t *testing.T, opts Config, source string, volumeType string) map[string][]string {
	t.Helper()
	s := &fake{actions: map[string]action{
		"DescribeImages":         images(source),
		"DescribeImageAttribute": answer("DescribeImageAttribute", "<uefiData><value>QU1aTlVFRkk=</value></uefiData>"),
		"RegisterImage":          answer("RegisterImage", "<imageId>ami-new</imageId>"),
	}}
	cloud := faked(t, s, opts)
	spec := bake.ImageSpec{
		Name: "new", Description: "of a test", Snapshot: "snap-new", SizeGiB: 10, VolumeType: volumeType,
		Tags: map[string]string{"a": "b"},
	}
	if source != "" {
		spec.Source = &bake.Image{ID: "ami-1"}
	}
	id, err := cloud.Register(context.Background(), spec)
	if err != nil || id != "ami-new" {
		t.Fatalf("image %q, %v", id, err)
	}
	return s.made("RegisterImage")[0]
}

func TestRegisterAsks(t *testing.T) {
	const dev = "BlockDeviceMapping."
	tests := []struct {
		name       string
		opts       Config
		source     string
		volumeType string
		want       map[string]string
	}{
		{"all that the source has", Config{}, richImage, "gp3", map[string]string{
			"Name": "new", "Description": "of a test", "Architecture": "arm64", "VirtualizationType": "hvm", "RootDeviceName": "/dev/sda1",
			"EnaSupport": "true", "SriovNetSupport": "simple", "BootMode": "uefi", "TpmSupport": "v2.0", "ImdsSupport": "v2.0",
			"UefiData": "QU1aTlVFRkk=",
			"KernelId": "", "RamdiskId": "",
			"TagSpecification.1.ResourceType": "image", "TagSpecification.1.Tag.1.Key": "a",
			dev + "1.DeviceName": "/dev/sda1", dev + "1.Ebs.SnapshotId": "snap-new", dev + "1.Ebs.VolumeSize": "10",
			dev + "1.Ebs.VolumeType": "gp3", dev + "1.Ebs.Iops": "4000", dev + "1.Ebs.Throughput": "250",
			dev + "1.Ebs.DeleteOnTermination": "true", dev + "1.Ebs.Encrypted": "",
			dev + "2.DeviceName": "/dev/sdb", dev + "2.VirtualName": "ephemeral0", dev + "2.Ebs.DeleteOnTermination": "",
			dev + "3.DeviceName": "/dev/sdf", dev + "3.Ebs.SnapshotId": "snap-data", dev + "3.Ebs.Iops": "",
			dev + "3.Ebs.DeleteOnTermination": "false", dev + "3.Ebs.Encrypted": "", dev + "3.Ebs.KmsKeyId": "",
			dev + "4.DeviceName": "/dev/sdg", dev + "4.Ebs.DeleteOnTermination": "",
			dev + "5.DeviceName": "",
		}},
		{"another type keeps no IOPS of the old one", Config{}, richImage, "io1", map[string]string{
			dev + "1.Ebs.VolumeType": "io1", dev + "1.Ebs.Iops": "", dev + "1.Ebs.Throughput": "",
		}},
		{"what the user says instead", Config{
			ImageConfig: ImageConfig{AMIArchitecture: "x86_64", ENASupport: config.TriFalse, BootMode: "uefi", UEFIData: "bWluZQ=="},
		}, richImage, "gp3", map[string]string{
			"Architecture": "x86_64", "EnaSupport": "false", "SriovNetSupport": "simple", "BootMode": "uefi", "UefiData": "bWluZQ==",
		}},
		{"what the source has not", Config{
			Config:      builder.Config{RootDeviceName: "xvda"},
			ImageConfig: ImageConfig{ENASupport: config.TriTrue, SRIOVSupport: true, BootMode: "uefi", TPMSupport: "v2.0", IMDSSupport: "v2.0"},
		}, " ", "", map[string]string{"EnaSupport": "true", "SriovNetSupport": "simple", "TpmSupport": "v2.0", "ImdsSupport": "v2.0"}},
		{"legacy BIOS has neither UEFI data nor a TPM", Config{ImageConfig: ImageConfig{BootMode: "legacy-bios", AMIArchitecture: "x86_64"}}, richImage, "", map[string]string{
			"BootMode": "legacy-bios", "UefiData": "", "TpmSupport": "",
		}},
		{"uefi-preferred has no TPM", Config{ImageConfig: ImageConfig{BootMode: "uefi-preferred"}}, richImage, "", map[string]string{
			"BootMode": "uefi-preferred", "UefiData": "QU1aTlVFRkk=", "TpmSupport": "",
		}},
		{"no UEFI data, if the user says so", Config{ImageConfig: ImageConfig{UEFIData: "none"}}, richImage, "", map[string]string{
			"BootMode": "uefi", "UefiData": "", "TpmSupport": "v2.0",
		}},
		{"a source without optional fields", Config{Config: builder.Config{RootDeviceName: "xvda"}}, " ", "", map[string]string{
			"Architecture": "", "VirtualizationType": "", "EnaSupport": "", "BootMode": "", dev + "1.DeviceName": "xvda",
			dev + "1.Ebs.SnapshotId": "snap-new", dev + "1.Ebs.VolumeType": "", dev + "1.Ebs.DeleteOnTermination": "false",
			dev + "2.DeviceName": "",
		}},
		{"paravirtual takes kernels, and nothing of hvm", Config{ImageConfig: ImageConfig{AMIVirtualizationType: "paravirtual"}}, richImage, "", map[string]string{
			"VirtualizationType": "paravirtual", "KernelId": "aki-1", "RamdiskId": "ari-1", "ImdsSupport": "v2.0",
			"EnaSupport": "", "SriovNetSupport": "", "BootMode": "", "TpmSupport": "", "UefiData": "",
		}},
		{"another root device", Config{Config: builder.Config{RootDeviceName: "/dev/xvda"}}, richImage, "gp3", map[string]string{
			"RootDeviceName": "/dev/xvda", dev + "1.DeviceName": "/dev/xvda", dev + "1.Ebs.Iops": "4000",
			dev + "2.DeviceName": "/dev/sdb", dev + "3.DeviceName": "/dev/sdf", dev + "4.DeviceName": "/dev/sdg", dev + "5.DeviceName": "",
		}},
		{"the user's devices", Config{
			VolumeConfig: VolumeConfig{AMIBlockDeviceMappings: []BlockDevice{
				{BlockDevice: builder.BlockDevice{DeviceName: "/dev/sdf", NoDevice: true}},
				{BlockDevice: builder.BlockDevice{DeviceName: "/dev/sdh", VolumeSize: 5, VolumeType: "io2", IOPS: 500}, Encrypted: true, KMSKeyID: "key-2"},
				{BlockDevice: builder.BlockDevice{DeviceName: "/dev/sdc", VirtualName: "ephemeral1"}},
				{BlockDevice: builder.BlockDevice{DeviceName: "/dev/sdi", SnapshotID: "snap-mine"}, DeleteOnTermination: true},
			}},
		}, richImage, "gp3", map[string]string{
			dev + "1.DeviceName": "/dev/sda1", dev + "2.DeviceName": "/dev/sdb", dev + "3.DeviceName": "/dev/sdg",
			dev + "4.DeviceName": "/dev/sdf", dev + "4.Ebs.SnapshotId": "",
			dev + "5.DeviceName": "/dev/sdh", dev + "5.Ebs.VolumeSize": "5", dev + "5.Ebs.Iops": "500", dev + "5.Ebs.Encrypted": "true",
			dev + "5.Ebs.KmsKeyId": "", dev + "5.Ebs.DeleteOnTermination": "false",
			dev + "6.VirtualName":    "ephemeral1",
			dev + "7.Ebs.SnapshotId": "snap-mine", dev + "7.Ebs.DeleteOnTermination": "true", dev + "7.Ebs.Encrypted": "",
			dev + "8.DeviceName": "",
		}},
		{"the user's root device", Config{
			VolumeConfig: VolumeConfig{AMIBlockDeviceMappings: []BlockDevice{
				{BlockDevice: builder.BlockDevice{DeviceName: "/dev/sda1", VolumeType: "io1", IOPS: 900, VolumeSize: 30}, Encrypted: true, KMSKeyID: "key-3"},
			}},
		}, richImage, "gp3", map[string]string{
			dev + "1.DeviceName": "/dev/sda1", dev + "1.Ebs.SnapshotId": "snap-new", dev + "1.Ebs.VolumeSize": "30",
			dev + "1.Ebs.VolumeType": "io1", dev + "1.Ebs.Iops": "900", dev + "1.Ebs.Throughput": "",
			dev + "1.Ebs.Encrypted": "", dev + "1.Ebs.KmsKeyId": "", dev + "1.Ebs.DeleteOnTermination": "false",
		}},
		{"a root device smaller than its content", Config{VolumeConfig: VolumeConfig{AMIBlockDeviceMappings: []BlockDevice{{BlockDevice: builder.BlockDevice{DeviceName: "/dev/sda1", VolumeSize: 1}}}}}, richImage, "",
			map[string]string{dev + "1.Ebs.VolumeSize": "10"}},
		{"from scratch, as the reference prints it",
			Config{
				Config:       builder.Config{FromScratch: true, RootDeviceName: "xvda"},
				ImageConfig:  ImageConfig{AMIVirtualizationType: "hvm"},
				VolumeConfig: VolumeConfig{AMIBlockDeviceMappings: []BlockDevice{{BlockDevice: builder.BlockDevice{DeviceName: "xvda", VolumeType: "gp2"}, DeleteOnTermination: true}}},
			}, "", "gp2", map[string]string{
				"RootDeviceName": "xvda", "VirtualizationType": "hvm", "Architecture": string(hostArchitecture()),
				dev + "1.DeviceName": "xvda", dev + "1.Ebs.SnapshotId": "snap-new", dev + "1.Ebs.VolumeSize": "10",
				dev + "1.Ebs.VolumeType": "gp2", dev + "1.Ebs.DeleteOnTermination": "true", dev + "2.DeviceName": "",
			}},
		{"from scratch, the root not among the mappings",
			Config{Config: builder.Config{FromScratch: true, RootDeviceName: "/dev/xvda"}, VolumeConfig: VolumeConfig{AMIBlockDeviceMappings: []BlockDevice{{BlockDevice: builder.BlockDevice{DeviceName: "/dev/sdf", VolumeSize: 1}}}}},
			"", "gp2", map[string]string{
				dev + "1.DeviceName": "/dev/xvda", dev + "1.Ebs.SnapshotId": "snap-new", dev + "1.Ebs.DeleteOnTermination": "true",
				dev + "2.DeviceName": "/dev/sdf", dev + "3.DeviceName": "",
			}},
		{"one root device with and without its path",
			Config{Config: builder.Config{FromScratch: true, RootDeviceName: "xvda"}, VolumeConfig: VolumeConfig{AMIBlockDeviceMappings: []BlockDevice{{BlockDevice: builder.BlockDevice{DeviceName: "/dev/xvda", VolumeType: "gp3"}}}}},
			"", "gp2", map[string]string{dev + "1.DeviceName": "xvda", dev + "1.Ebs.VolumeType": "gp3", dev + "2.DeviceName": ""}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) { check(t, registering(t, tt.opts, tt.source, tt.volumeType), tt.want) })
	}
}

// NoDevice is an empty string. It must be present nevertheless.
func TestSuppressedDeviceIsSent(t *testing.T) {
	sent := registering(t, Config{VolumeConfig: VolumeConfig{AMIBlockDeviceMappings: []BlockDevice{{BlockDevice: builder.BlockDevice{DeviceName: "/dev/sdf", NoDevice: true}}}}}, richImage, "gp3")
	if value, ok := sent["BlockDeviceMapping.4.NoDevice"]; !ok || value[0] != "" {
		t.Errorf("no_device was not sent: %v", sent)
	}
}

func TestRegisterKnowsTheSource(t *testing.T) {
	ctx := context.Background()
	s := &fake{actions: map[string]action{
		"DescribeImages":         images(richImage),
		"DescribeImageAttribute": answer("DescribeImageAttribute", ""),
		"RegisterImage":          answer("RegisterImage", "<imageId>ami-new</imageId>"),
	}}
	cloud := faked(t, s, Config{SourceConfig: SourceConfig{SourceAMI: "ami-1"}})
	source, err := cloud.Source(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := cloud.Register(ctx, bake.ImageSpec{Name: "new", Snapshot: "snap-new", Source: &source}); err != nil {
		t.Fatal(err)
	}
	check(t, s.made("RegisterImage")[0], map[string]string{"BootMode": "uefi", "UefiData": ""})
	if n := len(s.made("DescribeImages")); n != 1 {
		t.Errorf("the source was read %d times", n)
	}
}

func TestRegisterRefuses(t *testing.T) {
	tests := []struct {
		name   string
		opts   Config
		source *bake.Image
		images action
		want   []string
	}{
		{"no root device", Config{}, nil, nil, []string{`"new"`, "root_device_name"}},
		{"no volume at the root", Config{Config: builder.Config{RootDeviceName: "xvda"}, VolumeConfig: VolumeConfig{AMIBlockDeviceMappings: []BlockDevice{{BlockDevice: builder.BlockDevice{DeviceName: "/dev/xvda", NoDevice: true}}}}},
			nil, nil, []string{"/dev/xvda is the root device's"}},
		{"instance store at the root", Config{VolumeConfig: VolumeConfig{AMIBlockDeviceMappings: []BlockDevice{{BlockDevice: builder.BlockDevice{DeviceName: "sda1", VirtualName: "ephemeral0"}}}}},
			&bake.Image{ID: "ami-1"}, images(richImage), []string{"sda1 is the root device's"}},
		{"the source is gone", Config{}, &bake.Image{ID: "ami-1"}, images(), []string{"inherits", "ami-1", "not found"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := &fake{actions: map[string]action{"DescribeImages": tt.images, "DescribeImageAttribute": answer("DescribeImageAttribute", "")}}
			_, err := faked(t, s, tt.opts).Register(context.Background(), bake.ImageSpec{Name: "new", Snapshot: "snap-new", Source: tt.source})
			says(t, err, tt.want...)
		})
	}
}

func TestRegisterWhoseNameIsInUse(t *testing.T) {
	const ours = `<imageId>ami-9</imageId><name>new</name><imageState>pending</imageState><rootDeviceName>xvda</rootDeviceName>
		<blockDeviceMapping><item><deviceName>/dev/xvda</deviceName><ebs><snapshotId>snap-new</snapshotId></ebs></item></blockDeviceMapping>`
	const others = `<imageId>ami-8</imageId><name>new</name><imageState>available</imageState><rootDeviceName>xvda</rootDeviceName>
		<blockDeviceMapping><item><deviceName>/dev/xvda</deviceName><ebs><snapshotId>snap-8</snapshotId></ebs></item></blockDeviceMapping>`
	tests := []struct {
		name     string
		register action
		images   action
		want     bake.ImageID
		words    string
		wraps    []error
	}{
		{"by an earlier call", refuse("InvalidAMIName.Duplicate"), images(ours), "ami-9", "", nil},
		{"by a call whose answer is lost", inTurn(breakOff, refuse("InvalidAMIName.Duplicate")), images(ours), "ami-9", "", nil},
		{"by one that is not shown", refuse("InvalidAMIName.Duplicate"), images(), "", "InvalidAMIName.Duplicate",
			[]error{bake.ErrNameTaken, bake.ErrUnsettled}},
		{"by another image", refuse("InvalidAMIName.Duplicate"), images(others), "", "InvalidAMIName.Duplicate", []error{bake.ErrNameTaken}},
		{"by one without fields", refuse("InvalidAMIName.Duplicate"), images(""), "", "InvalidAMIName.Duplicate",
			[]error{bake.ErrNameTaken, bake.ErrUnsettled}},
		{"and cannot look", refuse("InvalidAMIName.Duplicate"), refuse("UnauthorizedOperation"), "", "UnauthorizedOperation", nil},
		{"not at all, its snapshot not known yet", refuse("InvalidSnapshot.NotFound"), nil, "", "InvalidSnapshot.NotFound", []error{bake.ErrUnsettled}},
		{"not at all, its snapshot seen pending", refuse("IncorrectState"), nil, "", "IncorrectState", []error{bake.ErrUnsettled}},
		{"not at all, another snapshot gone", refuseSaying("InvalidSnapshot.NotFound", "The snapshot 'snap-9' does not exist."), nil, "",
			"InvalidSnapshot.NotFound", nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := &fake{actions: map[string]action{"RegisterImage": tt.register, "DescribeImages": tt.images,
				"DescribeSnapshots": snapshots("<snapshotId>snap-new</snapshotId><status>completed</status>")}}
			got, err := faked(t, s, Config{Config: builder.Config{RootDeviceName: "xvda"}}).Register(context.Background(), bake.ImageSpec{Name: "new", Snapshot: "snap-new"})
			if tt.words != "" {
				says(t, err, tt.words, `"new"`)
			} else if err != nil || got != tt.want {
				t.Errorf("image %q, %v; want %q", got, err, tt.want)
			}
			for _, mark := range []error{bake.ErrNameTaken, bake.ErrUnsettled} {
				if errors.Is(err, mark) != slices.Contains(tt.wraps, mark) {
					t.Errorf("whether %v wraps %q is %t", err, mark, errors.Is(err, mark))
				}
			}
		})
	}
}

func TestHostArchitectureIsEC2s(t *testing.T) {
	want := map[string]string{"amd64": "x86_64", "386": "i386", "arm64": "arm64"}[runtime.GOARCH]
	if got := string(hostArchitecture()); got != want {
		t.Errorf("architecture %q, want %q", got, want)
	}
}
