package amazon

import (
	"context"
	"net/url"
	"strings"
	"testing"

	"github.com/packer-chroot/packer-plugin-chroot/builder"
)

// TestListsArePaged checks that lists are read page by page. EC2 refuses long lists without
// paging, and a page size together with IDs.
func TestListsArePaged(t *testing.T) {
	paged := func(good action) action {
		return func(form url.Values) (int, string) {
			ids := false
			for key := range form {
				ids = ids || strings.HasPrefix(key, "ImageId.") || strings.HasPrefix(key, "SnapshotId.") || strings.HasPrefix(key, "VolumeId.")
			}
			switch {
			case ids && form.Has("MaxResults"):
				return refuse("InvalidParameterCombination")(form)
			case !ids && form.Get("MaxResults") != "1000":
				return refuse("OperationNotPermitted")(form)
			}
			return good(form)
		}
	}
	const source = `<imageId>ami-1</imageId><name>base</name><imageState>available</imageState><imageOwnerId>1</imageOwnerId>
		<rootDeviceType>ebs</rootDeviceType><rootDeviceName>xvda</rootDeviceName>
		<blockDeviceMapping><item><deviceName>xvda</deviceName><ebs><snapshotId>snap-1</snapshotId></ebs></item></blockDeviceMapping>`
	s := &fake{actions: map[string]action{
		"DescribeImages":    paged(images(source)),
		"DescribeVolumes":   paged(volumes("<volumeId>vol-1</volumeId><status>available</status>")),
		"DescribeSnapshots": paged(snapshots("<snapshotId>snap-1</snapshotId><volumeId>vol-1</volumeId>")),
	}}
	ctx := context.Background()
	for name, call := range map[string]func(*Cloud) error{
		"FindVolumes":   func(c *Cloud) error { _, err := c.FindVolumes(ctx, "build"); return err },
		"Volume":        func(c *Cloud) error { _, err := c.Volume(ctx, "vol-1"); return err },
		"FindSnapshots": func(c *Cloud) error { _, err := c.FindSnapshots(ctx, "vol-1"); return err },
		"Snapshot":      func(c *Cloud) error { _, err := c.Snapshot(ctx, "snap-1"); return err },
		"FindImages":    func(c *Cloud) error { _, err := c.FindImages(ctx, "snap-1"); return err },
		"FindCopies":    func(c *Cloud) error { _, err := c.FindCopies(ctx, "ami-0", "base"); return err },
		"Named":         func(c *Cloud) error { _, err := c.Named(ctx, "base"); return err },
		"Image":         func(c *Cloud) error { _, err := c.Image(ctx, "ami-1"); return err },
		"Source":        func(c *Cloud) error { _, err := c.Source(ctx); return err },
		"Source, by its id too": func(c *Cloud) error {
			c.config.SourceAMI = "ami-1"
			_, err := c.Source(ctx)
			return err
		},
		"FindCopied": func(c *Cloud) error { _, err := c.FindCopied(ctx, "ami-1"); return err },
		"the encrypted snapshots of a source": func(c *Cloud) error {
			_, err := imagePlan{Cloud: c}.encryptedSnapshots(ctx, []BlockDevice{{BlockDevice: builder.BlockDevice{SnapshotID: "snap-1"}, Encrypted: true}}, nil)
			return err
		},
		"the keys of snapshots": func(c *Cloud) error {
			c.haveHomeKey(ctx, []string{"snap-1"})
			if n := len(s.made("DescribeSnapshots")); n == 0 || s.made("DescribeSnapshots")[n-1].Get("MaxResults") == "" {
				t.Error("the keys of snapshots are not asked for page by page")
			}
			return nil
		},
	} {
		t.Run(name, func(t *testing.T) {
			cloud := faked(t, s, Config{SourceConfig: SourceConfig{SourceAMIFilter: SourceFilterConfig{Owners: []string{"1"}, Filters: map[string]string{"name": "*"}}}, EncryptionConfig: EncryptionConfig{KMSKeyID: "key-1"}})
			if err := call(cloud); err != nil {
				t.Error(err)
			}
		})
	}
}
