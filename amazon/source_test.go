package amazon

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/packer-chroot/packer-plugin-chroot/bake"
	"github.com/packer-chroot/packer-plugin-chroot/builder"
)

// imageXML is an image that can be built from.
const imageXML = `<imageId>ami-1</imageId><name>base</name><imageState>available</imageState>
	<imageOwnerId>123456789012</imageOwnerId><imageOwnerAlias>amazon</imageOwnerAlias><creationDate>2026-01-02T03:04:05.000Z</creationDate>
	<architecture>arm64</architecture><virtualizationType>hvm</virtualizationType>
	<rootDeviceType>ebs</rootDeviceType><rootDeviceName>/dev/xvda</rootDeviceName>
	<blockDeviceMapping>
		<item><deviceName>/dev/sdb</deviceName><virtualName>ephemeral0</virtualName></item>
		<item><deviceName>/dev/sdf</deviceName><ebs><snapshotId>snap-2</snapshotId><volumeSize>1</volumeSize></ebs></item>
		<item><deviceName>/dev/xvda</deviceName><ebs><snapshotId>snap-1</snapshotId><volumeSize>8</volumeSize><volumeType>io1</volumeType><iops>400</iops></ebs></item>
	</blockDeviceMapping>
	<tagSet><item><key>os</key><value>debian</value></item></tagSet>`

func images(items ...string) action {
	return list("DescribeImages", "imagesSet", items)
}

func TestSource(t *testing.T) {
	s := &fake{actions: map[string]action{"DescribeImages": images(imageXML)}}
	got, err := faked(t, s, Config{SourceConfig: SourceConfig{SourceAMI: "ami-1"}}).Source(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	want := bake.Image{
		ID: "ami-1", Name: "base", State: bake.ImageAvailable, Owner: "123456789012", OwnerName: "amazon",
		Created: "2026-01-02T03:04:05.000Z", Architecture: "arm64", Virtualization: "hvm", RootDevice: "/dev/xvda",
		Root:      bake.RootVolume{Snapshot: "snap-1", SizeGiB: 8, Type: "io1", IOPS: 400},
		Snapshots: []bake.SnapshotID{"snap-1", "snap-2"},
	}
	if got.Tags["os"] != "debian" {
		t.Errorf("tags %v", got.Tags)
	}
	if got.Tags = nil; !sameImage(got, want) {
		t.Errorf("source %+v, want %+v", got, want)
	}
	if call := s.made("DescribeImages")[0]; call.Get("ImageId.1") != "ami-1" || call.Get("IncludeDeprecated") != "true" {
		t.Errorf("asked for %v", call)
	}
}

// sameImage compares images without their tags.
func sameImage(a, b bake.Image) bool {
	return a.ID == b.ID && a.Name == b.Name && a.State == b.State && a.Reason == b.Reason && a.Owner == b.Owner &&
		a.OwnerName == b.OwnerName && a.Created == b.Created && a.Architecture == b.Architecture &&
		a.Virtualization == b.Virtualization && a.RootDevice == b.RootDevice && a.Root == b.Root &&
		a.Locked == b.Locked && slices.Equal(a.Snapshots, b.Snapshots)
}

func TestSourceThatCannotBeUsed(t *testing.T) {
	tests := []struct {
		name   string
		images action
		want   []string
	}{
		{"unknown", refuse("InvalidAMIID.NotFound"), []string{"source image ami-1: not found in region eu-west-1"}},
		{"nothing", images(), []string{"ami-1", "not found"}},
		{"deregistered", images(`<imageId>ami-1</imageId><imageState>deregistered</imageState>`), []string{"ami-1", "not found"}},
		{"two", images(imageXML, imageXML), []string{"source_ami", "2 images", "ami-1"}},
		{"malformed", refuse("InvalidAMIID.Malformed"), []string{"source_ami", "cannot read image ami-1", "InvalidAMIID.Malformed"}},
		{"instance store", images(`<name>old</name><imageState>available</imageState><rootDeviceType>instance-store</rootDeviceType>`),
			[]string{"ami-1 (old)", `"instance-store"`, "must be on ebs"}},
		{"pending", images(`<imageState>pending</imageState><rootDeviceType>ebs</rootDeviceType>`), []string{`"pending"`, "available"}},
		{"no fields", images(""), []string{"ami-1", "must be on ebs"}},
		{"no root", images(`<imageState>available</imageState><rootDeviceType>ebs</rootDeviceType><rootDeviceName>/dev/sda1</rootDeviceName>
			<blockDeviceMapping><item/><item><deviceName>/dev/sdb</deviceName><ebs/></item></blockDeviceMapping>`),
			[]string{`"/dev/sda1"`, "no snapshot"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := &fake{actions: map[string]action{"DescribeImages": tt.images}}
			_, err := faked(t, s, Config{SourceConfig: SourceConfig{SourceAMI: "ami-1"}}).Source(context.Background())
			says(t, err, tt.want...)
		})
	}
}

// A source that cannot be the root device is refused when it is read, and not after the build.
func TestMappingThatCannotBeTheRoot(t *testing.T) {
	tests := []struct {
		name    string
		root    string
		mapping BlockDevice
		refused bool
	}{
		{"suppressed", "", BlockDevice{BlockDevice: builder.BlockDevice{DeviceName: "xvda", NoDevice: true}}, true},
		{"of a snapshot", "", BlockDevice{BlockDevice: builder.BlockDevice{DeviceName: "/dev/xvda", SnapshotID: "snap-2"}}, true},
		{"an instance store volume", "/dev/sda1", BlockDevice{BlockDevice: builder.BlockDevice{DeviceName: "/dev/sda1", VirtualName: "ephemeral0"}}, true},
		{"no longer the root", "/dev/sda1", BlockDevice{BlockDevice: builder.BlockDevice{DeviceName: "/dev/xvda", NoDevice: true}}, false},
		{"a volume", "", BlockDevice{BlockDevice: builder.BlockDevice{DeviceName: "/dev/xvda", VolumeType: "gp3"}}, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := &fake{actions: map[string]action{"DescribeImages": images(imageXML)}}
			opts := Config{Config: builder.Config{RootDeviceName: tt.root}, SourceConfig: SourceConfig{SourceAMI: "ami-1"}, VolumeConfig: VolumeConfig{AMIBlockDeviceMappings: []BlockDevice{tt.mapping}}}
			_, err := faked(t, s, opts).Source(context.Background())
			if tt.refused {
				says(t, err, tt.mapping.DeviceName, "root device")
			} else if err != nil {
				t.Error(err)
			}
		})
	}
}

// candidate is an image that a search finds.
func candidate(id, created, more string) string {
	image := strings.Replace(imageXML, "<imageId>ami-1<", "<imageId>"+id+"<", 1)
	return strings.Replace(image, "2026-01-02T03:04:05.000Z", created, 1) + more
}

// debian is a search for images of an account.
func debian(more func(*Config)) Config {
	o := Config{
		SourceConfig: SourceConfig{SourceAMIFilter: SourceFilterConfig{
			Filters: map[string]string{"name": "debian-*", "architecture": "arm64"},
			Owners:  []string{"123456789012", "amazon"},
		}},
	}
	if more != nil {
		more(&o)
	}
	return o
}

func mostRecent(o *Config) { o.SourceAMIFilter.MostRecent = true }

func TestSearchForASource(t *testing.T) {
	const early, late = "2026-01-02T03:04:05.000Z", "2026-01-02T03:04:05.001Z"
	tests := []struct {
		name   string
		opts   Config
		images action
		want   bake.ImageID
		asked  map[string]string
	}{
		{"the only one", debian(nil), images(imageXML), "ami-1", map[string]string{
			"Filter.1.Name": "architecture", "Filter.1.Value.1": "arm64", "Filter.2.Name": "name", "Filter.2.Value.1": "debian-*",
			"Owner.1": "123456789012", "Owner.2": "amazon", "IncludeDeprecated": "", "ImageId.1": "",
		}},
		{"the newest", debian(mostRecent), images(candidate("ami-1", early, ""), candidate("ami-3", late, ""), candidate("ami-2", early, "")), "ami-3", nil},
		{"the first of those of one moment", debian(mostRecent), images(candidate("ami-3", late, ""), candidate("ami-2", late, "")), "ami-2", nil},
		{"one without a date is old", debian(mostRecent), images(candidate("ami-1", "", ""), candidate("ami-2", early, "")), "ami-2", nil},
		{"on the second page", debian(mostRecent), inTurn(
			answer("DescribeImages", "<imagesSet><item>"+candidate("ami-1", early, "")+"</item></imagesSet><nextToken>more</nextToken>"),
			images(candidate("ami-2", late, "")),
		), "ami-2", nil},
		{"not the deregistered one", debian(nil), images(imageXML, "<imageId>ami-2</imageId><imageState>deregistered</imageState>"), "ami-1", nil},
		{"by its owner's alias", debian(func(o *Config) { o.SourceAMIFilter.Owners = []string{"amazon"} }), images(imageXML), "ami-1", nil},
		{"deprecated ones too", debian(func(o *Config) { o.SourceAMIFilter.IncludeDeprecated = true }), images(imageXML), "ami-1",
			map[string]string{"IncludeDeprecated": "true"}},
		{"pinned by its id", debian(func(o *Config) { o.SourceAMI = "ami-1" }), images(imageXML), "ami-1", map[string]string{
			"ImageId.1": "ami-1", "Filter.2.Value.1": "debian-*", "Owner.1": "123456789012", "IncludeDeprecated": "true",
		}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := &fake{actions: map[string]action{"DescribeImages": tt.images}}
			got, err := faked(t, s, tt.opts).Source(context.Background())
			if err != nil || got.ID != tt.want {
				t.Errorf("source %q, %v; want %q", got.ID, err, tt.want)
			}
			check(t, s.made("DescribeImages")[0], tt.asked)
		})
	}
}

func TestSearchThatFindsNoSource(t *testing.T) {
	var many []string
	for i := range 12 {
		many = append(many, candidate(fmt.Sprintf("ami-%d", i), "2026-01-02T03:04:05.000Z", ""))
	}
	pinned := func(o *Config) { o.SourceAMI = "ami-1" }
	tests := []struct {
		name   string
		opts   Config
		images action
		want   []string
	}{
		{"none", debian(nil), images(), []string{"no image in region eu-west-1", `name = "debian-*"`, `architecture = "arm64"`, "owners 123456789012, amazon"}},
		{"several", debian(nil), images(many[:2]...), []string{"2 images", "ami-0 (base, of ", "), ami-1 (base, of ", "most_recent"}},
		{"many", debian(nil), images(many...), []string{"12 images", "ami-0 (base", "and 2 more"}},
		{"the pinned one is unknown", debian(pinned), refuse("InvalidAMIID.NotFound"), []string{"source image ami-1", "not found in region eu-west-1"}},
		{"the pinned one is another", debian(pinned), images(), []string{"no image", "source_ami ami-1", `name = "debian-*"`}},
		{"of somebody else", debian(func(o *Config) { o.SourceAMIFilter.Owners = []string{"210987654321", "aws-marketplace"} }), images(imageXML),
			[]string{"ami-1 (base)", `"123456789012"`, `"amazon"`, "210987654321, aws-marketplace"}},
		{"not allowed", debian(nil), refuse("UnauthorizedOperation"), []string{"source_ami_filter", "UnauthorizedOperation"}},
		{"a filter that EC2 does not know", debian(nil), refuse("InvalidParameterValue"), []string{"source_ami_filter", "InvalidParameterValue"}},
		{"of another virtualization", debian(func(o *Config) { o.AMIVirtualizationType = "paravirtual" }), images(imageXML),
			[]string{"ami-1 (base)", `virtualization is "hvm"`, `ami_virtualization_type is "paravirtual"`}},
		{"instance store", debian(nil), images(strings.Replace(imageXML, "<rootDeviceType>ebs", "<rootDeviceType>instance-store", 1)),
			[]string{"ami-1 (base)", `"instance-store"`}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := &fake{actions: map[string]action{"DescribeImages": tt.images}}
			_, err := faked(t, s, tt.opts).Source(context.Background())
			says(t, err, tt.want...)
		})
	}
}

// A newer image must not be selected between the creation of the volume and of the image.
func TestSourceThatChanges(t *testing.T) {
	one, other := candidate("ami-1", "2026-01-02T03:04:05.000Z", ""), candidate("ami-2", "2026-02-02T03:04:05.000Z", "")
	one += "<ramdiskId>ari-1</ramdiskId><kernelId>aki-1</kernelId><virtualizationType>paravirtual</virtualizationType>"
	s := &fake{actions: map[string]action{
		"DescribeImages": inTurn(images(one), images(one, other)),
		"RegisterImage":  answer("RegisterImage", "<imageId>ami-new</imageId>"),
	}}
	cloud := faked(t, s, debian(mostRecent))
	source, err := cloud.Source(t.Context())
	if err != nil || source.ID != "ami-1" {
		t.Fatalf("source %q, %v", source.ID, err)
	}
	if later, err := cloud.Source(t.Context()); err != nil || later.ID != "ami-2" {
		t.Fatalf("source %q, %v", later.ID, err)
	}
	if _, err := cloud.Register(t.Context(), bake.ImageSpec{Name: "new", Snapshot: "snap-new", Source: &source}); err != nil {
		t.Fatal(err)
	}
	check(t, s.made("RegisterImage")[0], map[string]string{"KernelId": "aki-1", "RamdiskId": "ari-1"})
}

func TestDeprecatedSourceIsReported(t *testing.T) {
	now := time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC)
	for at, told := range map[string]bool{"2026-03-01T00:00:00.000Z": true, "2026-03-02T00:00:00.000Z": false, "": false, "soon": false} {
		t.Run(at, func(t *testing.T) {
			var log []string
			s := &fake{actions: map[string]action{"DescribeImages": images(imageXML + "<deprecationTime>" + at + "</deprecationTime>")}}
			cloud := logged(faked(t, s, Config{SourceConfig: SourceConfig{SourceAMI: "ami-1"}}), func(format string, args ...any) { log = append(log, fmt.Sprintf(format, args...)) })
			cloud.now = func() time.Time { return now }
			if _, err := cloud.Source(context.Background()); err != nil {
				t.Fatal(err)
			}
			if got := strings.Contains(strings.Join(log, "\n"), "ami-1 (base) is deprecated since "+at); got != told {
				t.Errorf("log %q", log)
			}
		})
	}
}

// Checks of a source that are possible once the host is known.
func TestSourceThatDoesNotFitTheHost(t *testing.T) {
	host := func(arch string) string {
		return strings.Replace(instance, "<instanceId>", "<architecture>"+arch+"</architecture><instanceId>", 1)
	}
	self := func(o *Config) { o.SourceAMIFilter.Owners = []string{"self"} }
	tests := []struct {
		name, image, host, account string
		opts                       Config
		want                       []string
	}{
		{"the same", "arm64", "arm64", "123456789012", debian(nil), nil},
		{"32 bits on 64", "i386", "x86_64", "123456789012", debian(nil), nil},
		{"another", "arm64", "x86_64", "123456789012", debian(nil), []string{"ami-1 (base)", "arm64", "x86_64", "ami_architecture"}},
		{"64 bits on 32", "x86_64", "i386", "123456789012", debian(nil), []string{"x86_64", "i386"}},
		{"another, and the user knows", "arm64", "x86_64", "123456789012", debian(func(o *Config) { o.AMIArchitecture = "arm64" }), nil},
		{"one that is not told", "", "x86_64", "123456789012", debian(nil), nil},
		{"a host that does not tell", string(hostArchitecture()), "", "123456789012", debian(nil), nil},
		{"the account's own", "arm64", "arm64", "123456789012", debian(self), nil},
		{"not the account's own", "arm64", "arm64", "210987654321", debian(self), []string{"ami-1 (base)", `"123456789012"`, "self"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			ctx := context.Background()
			s := &fake{
				metadata: map[string]string{"dynamic/instance-identity/document": document},
				actions: map[string]action{
					"DescribeImageAttribute": answer("DescribeImageAttribute", ""), // arm64 boots by UEFI
					"DescribeInstances":      answer("DescribeInstances", strings.Replace(host(tt.host), "<item>", "<item><ownerId>"+tt.account+"</ownerId>", 1)),
					"DescribeImages":         images(strings.Replace(imageXML, ">arm64<", ">"+tt.image+"<", 1)),
				},
			}
			cloud := faked(t, s, tt.opts)
			facts := bake.Facts{}
			var err error
			if facts.Host, err = cloud.Host(ctx); err != nil || facts.Host.Account != tt.account {
				t.Fatalf("host %+v, %v", facts.Host, err)
			}
			source, err := cloud.Source(ctx)
			if err != nil {
				t.Fatal(err)
			}
			facts.Source = &source
			switch _, err := cloud.Publication(ctx, facts); {
			case len(tt.want) > 0:
				says(t, err, tt.want...)
			case err != nil:
				t.Error(err)
			}
		})
	}
}

func TestParseTime(t *testing.T) {
	if got := moment("2026-01-02T03:04:05.000Z"); !got.Equal(time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)) {
		t.Errorf("%s", got)
	}
	if got := moment("yesterday"); !got.IsZero() {
		t.Errorf("%s", got)
	}
}

// TestUnreadableUEFIData checks that a build warns if it cannot read the UEFI data of another
// account's image, which only the owner can read, and fails if it cannot read those of its own
// account's image.
func TestUnreadableUEFIData(t *testing.T) {
	tests := []struct {
		name, owner string
		attribute   action
		asked       int
		told        bool
		words       string
	}{
		{"of somebody else", "210987654321", nil, 0, true, ""},
		{"refused", "123456789012", refuse("AuthFailure"), 1, true, ""},
		{"not allowed", "123456789012", refuse("UnauthorizedOperation"), 1, false, "do not allow ec2:DescribeImageAttribute"},
		{"unknown in the region", "123456789012", refuse("InvalidParameterValue"), 1, true, ""},
		{"none", "123456789012", answer("DescribeImageAttribute", "<uefiData/>"), 1, false, ""},
		{"no answer", "123456789012", refuse("InternalError"), 1, false, "read the UEFI variables of source image ami-1"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var log []string
			s := &fake{actions: map[string]action{
				"DescribeImages":         images(richImage + "<imageOwnerId>" + tt.owner + "</imageOwnerId>"),
				"DescribeImageAttribute": tt.attribute,
				"DescribeSnapshots":      refuse("UnauthorizedOperation"),
				"RegisterImage":          answer("RegisterImage", "<imageId>ami-new</imageId>"),
			}}
			cloud := logged(faked(t, s, Config{}), func(format string, args ...any) { log = append(log, fmt.Sprintf(format, args...)) })
			found, err := cloud.client.image(t.Context(), "ami-1")
			if err != nil {
				t.Fatal(err)
			}
			source := &bake.Image{ID: "ami-1", Details: &found}
			p, err := cloud.Publication(t.Context(), bake.Facts{Host: bake.Host{Account: "123456789012", Architecture: "arm64"}, Source: source})
			if err == nil {
				_, err = cloud.Register(t.Context(), bake.ImageSpec{Name: "new", Snapshot: "snap-new", Source: source, Details: p.Details})
			}
			if tt.words != "" {
				says(t, err, tt.words)
			} else if err != nil {
				t.Fatal(err)
			}
			if n := len(s.made("DescribeImageAttribute")); n != tt.asked {
				t.Errorf("asked %d times, want %d", n, tt.asked)
			}
			if told := strings.Contains(strings.Join(log, ""), "UEFI variables of source image ami-1 (base), such as the keys of Secure Boot, are not inherited"); told != tt.told {
				t.Errorf("log %q", log)
			}
		})
	}
}

// A source is unknown by one error, however it was looked for.
func TestUnknownSourceIsNotFound(t *testing.T) {
	for _, opts := range []Config{{SourceConfig: SourceConfig{SourceAMI: "ami-1"}}, debian(func(o *Config) { o.SourceAMI = "ami-1" })} {
		s := &fake{actions: map[string]action{"DescribeImages": refuse("InvalidAMIID.NotFound")}}
		if _, err := faked(t, s, opts).Source(context.Background()); !errors.Is(err, bake.ErrNotFound) {
			t.Errorf("%v, want %v", err, bake.ErrNotFound)
		}
	}
}

// A paravirtual image becomes an hvm one if something gives its disk a partition table.
func TestParavirtualBecomesHVM(t *testing.T) {
	paravirtual := strings.Replace(imageXML, "<virtualizationType>hvm", "<virtualizationType>paravirtual", 1)
	for _, tt := range []struct {
		name, wanted string
		commands     []string
		source, want string
	}{
		{"repartitioned", "hvm", []string{"parted"}, paravirtual, ""},
		{"as it is", "hvm", nil, paravirtual, "pre_mount_commands"},
		{"the other way", "paravirtual", []string{"parted"}, imageXML, `ami_virtualization_type is "paravirtual"`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var log string
			s := &fake{actions: map[string]action{"DescribeImages": images(tt.source)}}
			_, err := logged(faked(t, s, Config{
				Config:       builder.Config{PreMountCommands: tt.commands},
				SourceConfig: SourceConfig{SourceAMI: "ami-1"},
				ImageConfig:  ImageConfig{AMIVirtualizationType: tt.wanted},
			}), func(format string, args ...any) { log += fmt.Sprintf(format, args...) }).Source(context.Background())
			if tt.want != "" {
				says(t, err, tt.want)
			} else if err != nil || !strings.Contains(log, "paravirtual") {
				t.Errorf("%v, and the log says %q", err, log)
			}
		})
	}
}
