package amazon

import (
	"context"
	"slices"
	"testing"

	"github.com/packer-chroot/packer-plugin-chroot/bake"
)

func copySpec() bake.CopySpec {
	return bake.CopySpec{
		Build: "build-1", Source: "ami-1", SourceRegion: "us-east-1", Name: "web", Description: "of a test",
		ImageTags: map[string]string{"a": "b"}, SnapshotTags: map[string]string{"c": "d"},
	}
}

func TestCopyAsks(t *testing.T) {
	tests := []struct {
		name   string
		opts   Config
		change func(*bake.CopySpec)
		want   map[string]string
	}{
		{"plain", Config{}, func(*bake.CopySpec) {}, map[string]string{
			"SourceImageId": "ami-1", "SourceRegion": "us-east-1", "Name": "web", "Description": "of a test", "Encrypted": "", "KmsKeyId": "",
			"TagSpecification.1.ResourceType": "image", "TagSpecification.1.Tag.1.Key": "a",
			"TagSpecification.2.ResourceType": "snapshot", "TagSpecification.2.Tag.1.Key": "c", "TagSpecification.3.ResourceType": "",
			"SnapshotCopyCompletionDurationMinutes": "",
		}},
		{"no tags", Config{}, func(s *bake.CopySpec) { s.ImageTags, s.Description = nil, "" }, map[string]string{
			"TagSpecification.1.ResourceType": "snapshot", "TagSpecification.2.ResourceType": "", "Description": "",
		}},
		{"encrypted", Config{}, func(s *bake.CopySpec) { s.Encrypted = true }, map[string]string{"Encrypted": "true", "KmsKeyId": ""}},
		{"with a key", Config{}, func(s *bake.CopySpec) { s.KMSKeyID = "k" }, map[string]string{"Encrypted": "true", "KmsKeyId": "k"}},
		{"in time", Config{CopyConfig: CopyConfig{SnapshotCopyDurationMinutes: 30}}, func(*bake.CopySpec) {}, map[string]string{"SnapshotCopyCompletionDurationMinutes": "30"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := &fake{actions: map[string]action{"CopyImage": answer("CopyImage", "<imageId>ami-2</imageId>")}}
			spec := copySpec()
			tt.change(&spec)
			if id, err := faked(t, s, tt.opts).Copy(context.Background(), spec); err != nil || id != "ami-2" {
				t.Fatalf("image %q, %v", id, err)
			}
			check(t, s.made("CopyImage")[0], tt.want)
		})
	}
}

// Two processes send one token for one copy, and different ones for different
// copies.
func TestTokenOfACopy(t *testing.T) {
	asks := func(spec bake.CopySpec) string {
		s := &fake{actions: map[string]action{"CopyImage": answer("CopyImage", "<imageId>ami-2</imageId>")}}
		if _, err := faked(t, s, Config{}).Copy(context.Background(), spec); err != nil {
			t.Fatal(err)
		}
		return s.made("CopyImage")[0].Get("ClientToken")
	}
	token := asks(copySpec())
	if len(token) != 64 || asks(copySpec()) != token {
		t.Errorf("token %q is not that of another process", token)
	}
	for name, change := range map[string]func(*bake.CopySpec){
		"build":  func(s *bake.CopySpec) { s.Build = "build-2" },
		"source": func(s *bake.CopySpec) { s.Source = "ami-2" },
		"key":    func(s *bake.CopySpec) { s.KMSKeyID = "k" },
	} {
		changed := copySpec()
		if change(&changed); asks(changed) == token {
			t.Errorf("another %s has the same token", name)
		}
	}
}

const copyOfOurs = `<imageId>ami-2</imageId><name>web</name><sourceImageId>ami-1</sourceImageId><imageState>pending</imageState>`

// A copy's snapshots are found by their description while the image does not list them.
func TestFindCopied(t *testing.T) {
	described := func(id, description string) string {
		return "<snapshotId>" + id + "</snapshotId><description>" + description + "</description>"
	}
	s := &fake{actions: map[string]action{"DescribeSnapshots": snapshots(
		described("snap-1", "Copied for DestinationAmi ami-1 from SourceAmi ami-0 for SourceSnapshot snap-0. Task created on 1,600,000,000,000."),
		described("snap-2", "Copied for DestinationAmi ami-12 from SourceAmi ami-1 for SourceSnapshot snap-0."),
		described("snap-3", ""),
	)}}
	got, err := faked(t, s, Config{}).FindCopied(context.Background(), "ami-1")
	if err != nil || !slices.Equal(got, []bake.SnapshotID{"snap-1"}) {
		t.Errorf("found %v, %v", got, err)
	}
	check(t, s.made("DescribeSnapshots")[0], map[string]string{
		"Owner.1": "self", "Filter.1.Name": "description", "Filter.1.Value.1": "Copied for DestinationAmi ami-1 *", "MaxResults": "1000",
	})
	s.actions["DescribeSnapshots"] = refuse("UnauthorizedOperation")
	_, err = faked(t, s, Config{}).FindCopied(context.Background(), "ami-1")
	says(t, err, "snapshots of the copy ami-1", "ec2:DescribeSnapshots")
}

func TestFindCopies(t *testing.T) {
	s := &fake{actions: map[string]action{"DescribeImages": images(
		copyOfOurs,
		`<imageId>ami-3</imageId><name>web</name><sourceImageId>ami-9</sourceImageId>`,
		`<imageId>ami-4</imageId><name>web two</name><sourceImageId>ami-1</sourceImageId>`,
		`<imageId>ami-5</imageId><name>web</name>`, ``,
	)}}
	got, err := faked(t, s, Config{}).FindCopies(context.Background(), "ami-1", "web")
	if err != nil || !slices.Equal(got, []bake.ImageID{"ami-2"}) {
		t.Errorf("copies %v, %v", got, err)
	}
	check(t, s.made("DescribeImages")[0], map[string]string{"Owner.1": "self", "Filter.1.Name": "name", "Filter.1.Value.1": "web"})
}

func TestCopyRefused(t *testing.T) {
	tests := []struct {
		name   string
		copy   action
		images action
		want   bake.ImageID
		words  []string
	}{
		{"the name is an earlier call's", refuse("InvalidAMIName.Duplicate"), images(copyOfOurs), "ami-2", nil},
		{"the answer is lost", inTurn(breakOff, answer("CopyImage", "<imageId>ami-2</imageId>")), nil, "ami-2", nil},
		{"the name is another's", refuse("InvalidAMIName.Duplicate"), images(`<imageId>ami-5</imageId><name>web</name>`), "",
			[]string{"copy image ami-1 of us-east-1 to eu-west-1", `"web"`, "InvalidAMIName.Duplicate"}},
		{"the name cannot be looked for", refuse("InvalidAMIName.Duplicate"), refuse("UnauthorizedOperation"), "", []string{`"web"`, "UnauthorizedOperation"}},
		{"the storage may not be read", refuse("InvalidRequest"), nil, "", []string{"copy image ami-1 of us-east-1 to eu-west-1", "InvalidRequest"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := &fake{actions: map[string]action{"CopyImage": tt.copy, "DescribeImages": tt.images}}
			got, err := faked(t, s, Config{}).Copy(context.Background(), copySpec())
			if tt.words != nil {
				says(t, err, tt.words...)
			} else if err != nil || got != tt.want {
				t.Errorf("image %q, %v; want %q", got, err, tt.want)
			}
		})
	}
}

// TestOneCloudPerRegion checks that a build has one Cloud in each region.
func TestOneCloudPerRegion(t *testing.T) {
	home := faked(t, &fake{}, Config{})
	there := home.In("us-east-1")
	if home.In("eu-west-1") != bake.Cloud(home) || there == bake.Cloud(home) {
		t.Error("a cloud does not answer itself for its own region")
	}
	if home.In("us-east-1") != there || there.In("eu-west-1") != bake.Cloud(home) || there.In("eu-south-1") != home.In("eu-south-1") {
		t.Error("a region has two clouds")
	}
	if got := there.(*Cloud).client.Region(); got != "us-east-1" {
		t.Errorf("region %s", got)
	}
}
