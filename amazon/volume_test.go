package amazon

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"testing"

	"github.com/packer-chroot/packer-plugin-chroot/bake"
	"github.com/packer-chroot/packer-plugin-chroot/builder"
)

func volumes(items ...string) action {
	return list("DescribeVolumes", "volumeSet", items)
}

// attachment is a volume with one attachment, in the words of EC2.
func attachment(volumeState, host, device, state string) string {
	return "<volumeId>vol-1</volumeId><size>8</size><status>" + volumeState + "</status><attachmentSet><item><instanceId>" + host +
		"</instanceId><device>" + device + "</device><status>" + state + "</status></item></attachmentSet>"
}

func spec() bake.VolumeSpec {
	return bake.VolumeSpec{
		Build: "build-1", Zone: "eu-west-1a", Snapshot: "snap-1", SizeGiB: 10, Type: "gp3", IOPS: 3500,
		Tags: map[string]string{"Name": "scaffold", "a": "b"},
	}
}

func TestCreateVolumeAsks(t *testing.T) {
	tests := []struct {
		name   string
		change func(*bake.VolumeSpec)
		want   map[string]string
	}{
		{"everything", func(*bake.VolumeSpec) {}, map[string]string{
			"AvailabilityZone": "eu-west-1a", "SnapshotId": "snap-1", "Size": "10", "VolumeType": "gp3", "Iops": "3500",
			"TagSpecification.1.ResourceType": "volume",
			"TagSpecification.1.Tag.1.Key":    "Name", "TagSpecification.1.Tag.1.Value": "scaffold",
			"TagSpecification.1.Tag.3.Key": bake.BuildTag, "TagSpecification.1.Tag.3.Value": "build-1",
		}},
		{"blank", func(s *bake.VolumeSpec) { s.Snapshot = "" }, map[string]string{"SnapshotId": ""}},
		{"EC2's default type", func(s *bake.VolumeSpec) { s.Type = "" }, map[string]string{"VolumeType": "", "Iops": ""}},
		{"IOPS of another type", func(s *bake.VolumeSpec) { s.Type = "gp2" }, map[string]string{"VolumeType": "gp2", "Iops": ""}},
		{"the snapshot's size", func(s *bake.VolumeSpec) { s.SizeGiB = 0 }, map[string]string{"Size": ""}},
		{"too large to count", func(s *bake.VolumeSpec) { s.SizeGiB = 1 << 40 }, map[string]string{"Size": "2147483647"}},
		{"no tags but the build's", func(s *bake.VolumeSpec) { s.Tags = nil }, map[string]string{
			"TagSpecification.1.Tag.1.Key": bake.BuildTag, "TagSpecification.1.Tag.2.Key": "",
		}},
		{"the build's tag is not the user's", func(s *bake.VolumeSpec) { s.Tags = map[string]string{bake.BuildTag: "x"} }, map[string]string{
			"TagSpecification.1.Tag.1.Value": "build-1", "TagSpecification.1.Tag.2.Key": "",
		}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := &fake{actions: map[string]action{"CreateVolume": answer("CreateVolume", "<volumeId>vol-1</volumeId>")}}
			want := spec()
			tt.change(&want)
			if id, err := faked(t, s, Config{}).CreateVolume(context.Background(), want); err != nil || id != "vol-1" {
				t.Fatalf("volume %q, %v", id, err)
			}
			check(t, s.made("CreateVolume")[0], tt.want)
		})
	}
}

// An image may be shared without its snapshots.
func TestVolumeOfASnapshotThatIsNotShared(t *testing.T) {
	s := &fake{actions: map[string]action{"CreateVolume": refuse("InvalidSnapshot.NotFound")}}
	_, err := faked(t, s, Config{}).CreateVolume(context.Background(), spec())
	says(t, err, "create a volume in eu-west-1a from snap-1", "InvalidSnapshot.NotFound", "share")
	if strings.Contains(err.Error(), "during the build") {
		t.Errorf("error %q tells of two causes", err)
	}
}

// check compares the parameters of a call with the wanted ones. An empty value means that the
// parameter must be absent.
func check(t *testing.T, call url.Values, want map[string]string) {
	t.Helper()
	for name, value := range want {
		if call.Get(name) != value || (value == "" && call.Has(name)) {
			t.Errorf("%s is %q, want %q in %v", name, call.Get(name), value, call)
		}
	}
}

// The encryption of the root device is set on the volume that the build uses.
func TestVolumeOfAnEncryptedRoot(t *testing.T) {
	encrypted := BlockDevice{BlockDevice: builder.BlockDevice{DeviceName: "/dev/xvda"}, Encrypted: true, KMSKeyID: "key-1"}
	tests := []struct {
		name      string
		opts      Config
		encrypted string
	}{
		{"of the source's name", Config{SourceConfig: SourceConfig{SourceAMI: "ami-1"}, VolumeConfig: VolumeConfig{AMIBlockDeviceMappings: []BlockDevice{encrypted}}}, "true"},
		{"from scratch", Config{Config: builder.Config{RootDeviceName: "xvda"}, VolumeConfig: VolumeConfig{AMIBlockDeviceMappings: []BlockDevice{encrypted}}}, "true"},
		{"of another device", Config{Config: builder.Config{RootDeviceName: "/dev/sda1"}, VolumeConfig: VolumeConfig{AMIBlockDeviceMappings: []BlockDevice{encrypted}}}, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := &fake{actions: map[string]action{
				"DescribeImages": images(imageXML),
				"CreateVolume":   answer("CreateVolume", "<volumeId>vol-1</volumeId>"),
			}}
			cloud := faked(t, s, tt.opts)
			facts := bake.Facts{}
			if tt.opts.SourceAMI != "" {
				found, err := cloud.Source(t.Context())
				if err != nil {
					t.Fatal(err)
				}
				facts.Source, facts.Host.Architecture = &found, found.Architecture
			}
			volume := spec()
			volume.Encryption = cloud.planOf(facts).rootEncryption()
			if _, err := cloud.CreateVolume(t.Context(), volume); err != nil {
				t.Fatal(err)
			}
			key := ""
			if tt.encrypted != "" {
				key = "key-1"
			}
			check(t, s.made("CreateVolume")[0], map[string]string{"Encrypted": tt.encrypted, "KmsKeyId": key})
		})
	}
}

func TestVolumeIsNamedAfterTheImage(t *testing.T) {
	cloud := NewCloud(nil, &Config{ImageConfig: ImageConfig{AMIName: "web"}}, nil)
	if got := cloud.volumeTags(bake.VolumeSpec{})["Name"]; got != "packer-chroot web" {
		t.Errorf("volume is named %q", got)
	}
	if got := cloud.volumeTags(spec())["Name"]; got != "scaffold" {
		t.Errorf("volume is named %q, and the user wants scaffold", got)
	}
	full := map[string]string{}
	for n := range 49 {
		full[fmt.Sprint("k", n)] = ""
	}
	if got := len(cloud.volumeTags(bake.VolumeSpec{Build: "build-1", Tags: full})); got != 50 {
		t.Errorf("volume has %d tags", got)
	}
}

// A process that cleans up after another one derives the tokens that it sent.
func TestClientTokens(t *testing.T) {
	asks := func(t *testing.T, region string, spec bake.VolumeSpec) string {
		s := &fake{actions: map[string]action{"CreateVolume": answer("CreateVolume", "<volumeId>vol-1</volumeId>")}}
		a := access(serve(t, s).URL)
		a.Region = region
		if _, err := NewCloud(dial(t, a), &Config{}, nil).CreateVolume(context.Background(), spec); err != nil {
			t.Fatal(err)
		}
		return s.made("CreateVolume")[0].Get("ClientToken")
	}
	token := asks(t, "eu-west-1", spec())
	if len(token) != 64 || asks(t, "eu-west-1", spec()) != token {
		t.Errorf("token %q is not that of another process", token)
	}
	for name, change := range map[string]func(*bake.VolumeSpec){
		"build": func(s *bake.VolumeSpec) { s.Build = "build-2" },
		"size":  func(s *bake.VolumeSpec) { s.SizeGiB++ },
		"tags":  func(s *bake.VolumeSpec) { s.Tags["a"] = "c" },
	} {
		changed := spec()
		if change(&changed); asks(t, "eu-west-1", changed) == token {
			t.Errorf("another %s has the same token", name)
		}
	}
	if asks(t, "us-east-1", spec()) == token {
		t.Error("two regions have the same token")
	}
}

func TestVolume(t *testing.T) {
	tests := []struct {
		name, xml string
		want      bake.Volume
	}{
		{"no fields", "", bake.Volume{ID: "vol-1", Attach: bake.Detached}},
		{"free", "<volumeId>vol-1</volumeId><size>8</size><status>available</status>",
			bake.Volume{ID: "vol-1", State: bake.VolumeAvailable, SizeGiB: 8, Attach: bake.Detached}},
		{"attached", attachment("in-use", "i-1", "/dev/sdf", "attached"),
			bake.Volume{ID: "vol-1", State: bake.VolumeInUse, SizeGiB: 8, Attach: bake.Attached, Host: "i-1", Device: "/dev/sdf"}},
		{"detach waits for the device", attachment("in-use", "i-1", "/dev/sdf", "busy"),
			bake.Volume{ID: "vol-1", State: bake.VolumeInUse, SizeGiB: 8, Attach: bake.Detaching, Host: "i-1", Device: "/dev/sdf"}},
		{"was attached", attachment("available", "i-1", "/dev/sdf", "detached"),
			bake.Volume{ID: "vol-1", State: bake.VolumeAvailable, SizeGiB: 8, Attach: bake.Detached}},
		{"attachment without fields", "<attachmentSet><item/></attachmentSet>", bake.Volume{ID: "vol-1", Attach: bake.Detached}},
		{"failed", "<status>error</status>", bake.Volume{ID: "vol-1", State: bake.VolumeError, Attach: bake.Detached}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := &fake{actions: map[string]action{"DescribeVolumes": volumes(tt.xml)}}
			if got, err := faked(t, s, Config{}).Volume(context.Background(), "vol-1"); err != nil || got != tt.want {
				t.Errorf("volume %+v, %v; want %+v", got, err, tt.want)
			}
		})
	}
}

func TestFindVolumesReadsAllPages(t *testing.T) {
	tag := "<tagSet><item><key>" + bake.BuildTag + "</key><value>build-1</value></item></tagSet>"
	s := &fake{actions: map[string]action{"DescribeVolumes": inTurn(
		// EC2 may return an empty page, and results on the next one.
		answer("DescribeVolumes", "<volumeSet/><nextToken>first</nextToken>"),
		answer("DescribeVolumes", "<volumeSet><item><volumeId>vol-1</volumeId>"+tag+"</item></volumeSet><nextToken>more</nextToken>"),
		volumes("<volumeId>vol-2</volumeId>"+tag, "<volumeId>vol-3</volumeId>", "<volumeId>vol-4</volumeId>"+strings.Replace(tag, "build-1", "build-2", 1)))}}
	got, err := faked(t, s, Config{}).FindVolumes(context.Background(), "build-1")
	if err != nil || len(got) != 2 || got[0] != "vol-1" || got[1] != "vol-2" {
		t.Errorf("volumes %v, %v", got, err)
	}
	calls := s.made("DescribeVolumes")
	check(t, calls[0], map[string]string{"Filter.1.Name": "tag:" + bake.BuildTag, "Filter.1.Value.1": "build-1", "MaxResults": "1000"})
	check(t, calls[2], map[string]string{"NextToken": "more", "MaxResults": "1000"})
}

// nameInUse is how EC2 refuses a device name that the instance uses.
const nameInUse = "InvalidParameterValue: Invalid value '/dev/sdf' for unixDevice. Attachment point /dev/sdf is already in use"

func TestAttachRefused(t *testing.T) {
	mine := volumes(attachment("in-use", "i-1", "/dev/sdf", "attaching"))
	free := volumes("<volumeId>vol-1</volumeId><status>available</status>")
	tests := []struct {
		name   string
		code   string
		volume action
		want   error // nil: it is attached; errAny: another error
	}{
		{"attached by an earlier call", "VolumeInUse", mine, nil},
		{"name in use by an earlier call", nameInUse, mine, nil},
		{"attached under another name", "VolumeInUse", volumes(attachment("in-use", "i-1", "/dev/sdg", "attached")), errAny},
		{"attached elsewhere", "VolumeInUse", volumes(attachment("in-use", "i-2", "/dev/sdf", "attached")), errAny},
		{"on its way out", "VolumeInUse", volumes(attachment("in-use", "i-1", "/dev/sdf", "detaching")), errAny},
		{"name in use", "InvalidDevice.InUse", free, bake.ErrDeviceTaken},
		{"name in use, as an invalid value", nameInUse, free, bake.ErrDeviceTaken},
		{"name invalid", "InvalidParameterValue: Value (/dev/sdf) for parameter device is invalid. /dev/sdf is not a valid EBS device name.",
			free, bake.ErrDeviceTaken},
		{"name in use, and nothing more known", nameInUse, refuse("UnauthorizedOperation"), bake.ErrDeviceTaken},
		{"another value refused", "InvalidParameterValue: The volume cannot be attached to this instance type", free, errAny},
		{"not known yet", "InvalidVolume.NotFound", free, bake.ErrUnsettled},
		{"not known to be available yet", "IncorrectState: vol-1 is not 'available'.", free, bake.ErrUnsettled},
		{"not available", "IncorrectState", volumes("<volumeId>vol-1</volumeId><status>error</status>"), errAny},
		{"the instance not running", "IncorrectState: Instance 'i-1' is not 'running'.", free, errAny},
		{"in another zone", "InvalidVolume.ZoneMismatch", free, errAny},
		{"too many", "AttachmentLimitExceeded", free, errAny},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			code, words, _ := strings.Cut(tt.code, ": ")
			s := &fake{actions: map[string]action{"AttachVolume": refuseSaying(code, words), "DescribeVolumes": tt.volume}}
			err := faked(t, s, Config{}).Attach(context.Background(), "vol-1", "i-1", "/dev/sdf")
			checkError(t, err, tt.want)
			if err != nil {
				says(t, err, "cannot attach vol-1 to i-1 as /dev/sdf", code, words)
			}
		})
	}
}

// errAny stands for any error that is not one of bake's.
var errAny = errors.New("any error")

func checkError(t *testing.T, err, want error) {
	t.Helper()
	if errors.Is(want, errAny) {
		if err == nil || errors.Is(err, bake.ErrDeviceTaken) || errors.Is(err, bake.ErrNotFound) || errors.Is(err, bake.ErrUnsettled) {
			t.Errorf("error %v, want another one", err)
		}
	} else if !errors.Is(err, want) {
		t.Errorf("error %v, want %v", err, want)
	}
}

func TestDetachRefused(t *testing.T) {
	tests := []struct {
		name   string
		code   string
		volume action
		want   error
	}{
		{"never attached", "IncorrectState", volumes("<status>available</status>"), nil},
		{"on its way out", "IncorrectState", volumes(attachment("in-use", "i-1", "/dev/sdf", "detaching")), nil},
		{"attached to another host", "IncorrectState", volumes(attachment("in-use", "i-2", "/dev/sdf", "attached")), nil},
		{"not yet attached", "IncorrectState", volumes(attachment("in-use", "i-1", "/dev/sdf", "attaching")), bake.ErrUnsettled},
		{"gone while looking", "IncorrectState", refuse("InvalidVolume.NotFound"), nil},
		{"state unknown", "IncorrectState", refuse("UnauthorizedOperation"), bake.ErrUnsettled},
		{"no such attachment", "InvalidAttachment.NotFound", volumes("<status>available</status>"), nil},
		{"no such volume", "InvalidVolume.NotFound", refuse("InvalidVolume.NotFound"), nil},
		{"attachment not known yet", "InvalidAttachment.NotFound", volumes(attachment("in-use", "i-1", "/dev/sdf", "attached")), bake.ErrUnsettled},
		{"volume not known yet", "InvalidVolume.NotFound", volumes(attachment("in-use", "i-1", "/dev/sdf", "attached")), bake.ErrUnsettled},
		{"no such instance", "InvalidInstanceID.NotFound", nil, nil},
		{"not allowed", "UnauthorizedOperation", nil, errAny},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := &fake{actions: map[string]action{"DetachVolume": refuse(tt.code), "DescribeVolumes": tt.volume}}
			checkError(t, faked(t, s, Config{}).Detach(context.Background(), "vol-1", "i-1"), tt.want)
		})
	}
}

func TestDeleteVolumeRefused(t *testing.T) {
	tests := []struct {
		name   string
		code   string
		volume action
		want   error
	}{
		{"gone", "InvalidVolume.NotFound", refuse("InvalidVolume.NotFound"), nil},
		{"not known yet", "InvalidVolume.NotFound", volumes("<status>available</status>"), bake.ErrUnsettled},
		{"not known to be detached yet", "VolumeInUse", volumes("<status>available</status>"), bake.ErrUnsettled},
		{"not known to be available yet", "IncorrectState", volumes("<status>available</status>"), bake.ErrUnsettled},
		{"on its way out", "IncorrectState", volumes("<status>deleting</status>"), nil},
		{"gone while looking", "IncorrectState", volumes(), nil},
		{"creating", "IncorrectState", volumes("<status>creating</status>"), errAny},
		{"in use", "VolumeInUse", volumes(attachment("in-use", "i-1", "/dev/sdf", "attached")), errAny},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := &fake{actions: map[string]action{"DeleteVolume": refuse(tt.code), "DescribeVolumes": tt.volume}}
			checkError(t, faked(t, s, Config{}).DeleteVolume(context.Background(), "vol-1"), tt.want)
		})
	}
}
