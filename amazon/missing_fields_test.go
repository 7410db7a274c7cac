package amazon

import (
	"context"
	"encoding/xml"
	"errors"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/hashicorp/packer-plugin-sdk/template/config"

	"github.com/packer-chroot/packer-plugin-chroot/bake"
	"github.com/packer-chroot/packer-plugin-chroot/builder"
)

// without lists the variants of a response in which one element, and all within it,
// is taken out, for each of its elements.
func without(t *testing.T, answer string) []string {
	t.Helper()
	decoder := xml.NewDecoder(strings.NewReader(answer))
	var begun []int64
	var all []string
	for {
		at := decoder.InputOffset()
		token, err := decoder.Token()
		if errors.Is(err, io.EOF) {
			return all
		}
		if err != nil {
			t.Fatal(err)
		}
		switch token.(type) {
		case xml.StartElement:
			begun = append(begun, at)
		case xml.EndElement:
			from := begun[len(begun)-1]
			begun = begun[:len(begun)-1]
			if len(begun) > 0 {
				all = append(all, answer[:from]+answer[decoder.InputOffset():])
			}
		}
	}
}

// fullest are responses from which no field is omitted.
func fullest() map[string]string {
	_, image := images(recorded + "<imageOwnerId>1</imageOwnerId><sourceImageId>ami-0</sourceImageId><stateReason><message>m</message></stateReason>")(nil)
	_, volume := volumes(attachment("in-use", "i-0123", "/dev/sdf", "attached") +
		"<tagSet><item><key>" + bake.BuildTag + "</key><value>build-1</value></item></tagSet>")(nil)
	_, snapshot := snapshots(aSnapshot("snap-mine", "completed", sealed+"<progress>100%</progress><description>d</description>"+
		"<volumeId>vol-1</volumeId><tagSet><item><key>a</key><value>b</value></item></tagSet>"))(nil)
	_, regions := regionsKnown(nil)
	_, here := answer("DescribeInstances", strings.Replace(instance, "<item>", "<item><ownerId>1</ownerId>", 1))(nil)
	all := map[string]string{
		"DescribeImages": image, "DescribeVolumes": volume, "DescribeSnapshots": snapshot, "DescribeRegions": regions, "DescribeInstances": here,
		"DescribeImageAttribute": `<R><launchPermission><item><userId>1</userId></item></launchPermission><uefiData><value>QQ==</value></uefiData></R>`,
	}
	for action, id := range map[string]string{"CreateVolume": "volumeId", "CreateSnapshot": "snapshotId", "RegisterImage": "imageId", "CopyImage": "imageId"} {
		_, all[action] = answer(action, "<"+id+">id-1</"+id+">")(nil)
	}
	for _, action := range []string{
		"AttachVolume", "DetachVolume", "DeleteVolume", "DeleteSnapshot", "DeregisterImage", "ModifyImageAttribute", "ModifySnapshotAttribute",
		"EnableImageDeprecation", "EnableImageDeregistrationProtection", "DisableImageDeregistrationProtection",
	} {
		_, all[action] = answer(action, "<return>true</return>")(nil)
	}
	return all
}

// everyCall makes every call of a Cloud, in the order of a build, and continues after errors.
// It returns the IDs of the calls that succeeded.
func everyCall(ctx context.Context, c *Cloud) []string {
	var ids []string
	note := func(id string, err error) {
		if err == nil {
			ids = append(ids, id)
		}
	}
	facts := bake.Facts{}
	facts.Host, _ = c.Host(ctx)
	source, err := c.Source(ctx)
	if err == nil {
		facts.Source = &source
	}
	_, _ = c.Publication(ctx, facts)
	volume, err := c.CreateVolume(ctx, spec())
	note(string(volume), err)
	_, _ = c.Volume(ctx, "vol-1")
	found, _ := c.FindVolumes(ctx, "build-1")
	for _, id := range found {
		note(string(id), nil)
	}
	_ = c.Attach(ctx, "vol-1", "i-0123", "/dev/sdf")
	_ = c.Detach(ctx, "vol-1", "i-0123")
	_ = c.DeleteVolume(ctx, "vol-1")
	snapshot, err := c.CreateSnapshot(ctx, bake.SnapshotSpec{Volume: "vol-1"})
	note(string(snapshot), err)
	_, _ = c.Snapshot(ctx, "snap-mine")
	snapshots, _ := c.FindSnapshots(ctx, "vol-1")
	for _, id := range snapshots {
		note(string(id), nil)
	}
	_ = c.DeleteSnapshot(ctx, "snap-mine")
	return append(ids, everyCallOfImages(ctx, c)...)
}

func everyCallOfImages(ctx context.Context, c *Cloud) []string {
	var ids []string
	note := func(err error, all ...bake.ImageID) {
		for _, id := range all {
			if err == nil {
				ids = append(ids, string(id))
			}
		}
	}
	image, err := c.Register(ctx, bake.ImageSpec{Name: "new", Snapshot: "snap-new", Source: &bake.Image{ID: "ami-1"}})
	note(err, image)
	_, _ = c.Image(ctx, "ami-1")
	copied, err := c.Copy(ctx, copySpec())
	note(err, copied)
	for _, find := range []func() ([]bake.ImageID, error){
		func() ([]bake.ImageID, error) { return c.FindImages(ctx, "snap-old") },
		func() ([]bake.ImageID, error) { return c.FindCopies(ctx, "ami-0", "base") },
		func() ([]bake.ImageID, error) { return c.Named(ctx, "base") },
	} {
		found, err := find()
		note(err, found...)
	}
	_ = c.Publish(ctx, bake.PublishSpec{Image: "ami-1", Snapshots: []bake.SnapshotID{"snap-new"}})
	if record, err := c.Record(ctx, "ami-1"); err == nil {
		again, err := restored(ctx, c, record)
		note(err, again)
	}
	_ = c.Deregister(ctx, "ami-1")
	return ids
}

// TestResponsesWithMissingFields leaves out fields of EC2's responses. No call panics, and none
// returns a resource without its id.
func TestResponsesWithMissingFields(t *testing.T) {
	full := fullest()
	s := &fake{metadata: map[string]string{"dynamic/instance-identity/document": document}, actions: map[string]action{}}
	now := map[string]string{}
	for name := range full {
		s.actions[name] = func(url.Values) (int, string) { return http.StatusOK, now[name] }
	}
	opts := everything()
	opts.SourceAMIFilter = SourceFilterConfig{Filters: map[string]string{"name": "*"}, Owners: []string{"1"}, MostRecent: true}
	opts.AMIArchitecture, opts.EncryptBoot, opts.AMIRegions = "arm64", config.TriTrue, []string{"us-east-1"}
	opts.AMIBlockDeviceMappings = []BlockDevice{{BlockDevice: builder.BlockDevice{DeviceName: "/dev/sdh", SnapshotID: "snap-mine"}}}
	client := faked(t, s, Config{}).client

	try := func(action, body string) {
		for name := range full {
			now[name] = full[name]
		}
		now[action] = body
		if ids := everyCall(context.Background(), NewCloud(client, &opts, nil)); slices.Contains(ids, "") {
			t.Errorf("something without an id, where %s answers %s", action, body)
		}
	}
	try("", "")
	if ids := everyCall(context.Background(), NewCloud(client, &opts, nil)); len(ids) != 10 {
		t.Errorf("ids of full answers: %v", ids)
	}
	for action, body := range full {
		try(action, "<R/>")
		for _, less := range without(t, body) {
			try(action, less)
		}
	}
}
