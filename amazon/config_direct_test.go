package amazon

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/packer-chroot/packer-plugin-chroot/builder/buildertest"
	"github.com/packer-chroot/packer-plugin-chroot/lazydisk/cache"
)

// TestInvalidDirectOptions has one option at a time that makes no sense with ebs_direct, or is wrong.
func TestInvalidDirectOptions(t *testing.T) {
	type give = map[string]any
	many := func(n int) give {
		tags := give{}
		for i := range n {
			tags[fmt.Sprint("key", i)] = "v"
		}
		return tags
	}
	var refusals []buildertest.Refusal
	for _, test := range []buildertest.Refusal{
		{"device_path", give{"device_path": "/dev/sdf"}, []string{`device_path is "/dev/sdf"`, "ebs_direct", "{{.Device}}"}},
		{"nvme_device_path", give{"nvme_device_path": "/dev/nvme1n1p"}, []string{`nvme_device_path is "/dev/nvme1n1p"`, "ebs_direct"}},
		{"custom_endpoint_ebs", give{"custom_endpoint_ebs": "ftp://x"}, []string{`custom_endpoint_ebs is "ftp://x"`, "https://ebs.example.com"}},
		{"block_cache_dir", give{"block_cache_dir": "blocks"}, []string{`block_cache_dir is "blocks"`, "absolute"}},
		{"block_cache_size", give{"block_cache_size": "large"}, []string{"block_cache_size", `"large"`, "20GiB"}},
		{"a negative cache", give{"block_cache_size": "-1"}, []string{"block_cache_size", `"-1"`}},
		{"too many tags", give{"snapshot_tags": many(50)}, []string{"tags and snapshot_tags have 50 keys", "49"}},
		{"too many tags together", give{"snapshot_tags": many(40), "tags": give{"a": "1", "b": "1", "c": "1", "d": "1", "e": "1", "f": "1", "g": "1", "h": "1", "i": "1", "j": "1", "key1": "1"}}, []string{"tags and snapshot_tags have 50 keys"}},
	} {
		test.Give = with(t, test.Give)
		test.Give["ebs_direct"] = true
		refusals = append(refusals, test)
	}
	buildertest.Refuses(t, Plugin, refusals)
	t.Setenv(cache.SizeVariable, "large")
	buildertest.Refuses(t, Plugin, []buildertest.Refusal{{"the environment's size", with(t, map[string]any{"ebs_direct": true}), []string{cache.SizeVariable, `"large"`}}})
	prepared(t, nil) // without ebs_direct the variable is not read
}

// TestDirectOptionsWithoutEffect: options that have no effect with ebs_direct, or without it, are
// accepted with a warning.
func TestDirectOptionsWithoutEffect(t *testing.T) {
	for _, test := range []struct {
		direct bool
		option string
		value  any
	}{
		{true, "instance_id", "i-0123456789abcdef0"},
		{true, "root_volume_tags", map[string]any{"a": "b"}},
		{false, "keep_source_copy", true},
		{false, "block_cache_dir", "/var/cache/blocks"},
		{false, "block_cache_size", "1GiB"},
		{false, "block_cache_encrypted", true},
		{false, "custom_endpoint_ebs", "https://ebs.example.com"},
	} {
		for _, direct := range []bool{true, false} {
			_, warnings := prepared(t, map[string]any{"ebs_direct": direct, test.option: test.value})
			warned := slices.ContainsFunc(warnings, func(w string) bool { return strings.HasPrefix(w, test.option+" has no effect") })
			if warned != (direct == test.direct) {
				t.Errorf("ebs_direct is %t, %s: the warnings are %q", direct, test.option, warnings)
			}
		}
	}
}

// TestValidDirectOptions: these options keep their meaning with ebs_direct.
func TestValidDirectOptions(t *testing.T) {
	give := map[string]any{
		"ebs_direct": true, "skip_metadata_api_check": true, "region": "eu-west-1",
		"root_volume_size": 20, "root_volume_type": "io2", "root_volume_iops": 1000, "mount_partition": "1", "mount_path": "/mnt/{{.Device}}",
		"pre_mount_commands": []any{"sfdisk {{.Device}}"}, "grow_root_filesystem": true, "encrypt_boot": true, "kms_key_id": "alias/images",
		"ami_regions": []any{"us-east-1"}, "custom_endpoint_metadata": "http://127.0.0.1:1", "aws_polling": map[string]any{"max_attempts": 10},
	}
	c, warnings := prepared(t, give)
	if len(warnings) > 0 || !c.EBSDirect {
		t.Errorf("warnings %q", warnings)
	}
}

// TestBlockCacheOptions: the size and the directory of the cache come from the options. What they leave
// open, the environment or the default decides.
func TestBlockCacheOptions(t *testing.T) {
	for size, want := range map[string]int64{"": 0, "50GiB": 50 << 30, "1G": 1 << 30, "0": noCache} {
		c, _ := prepared(t, map[string]any{"ebs_direct": true, "block_cache_size": size, "block_cache_dir": "/blocks"})
		if o, err := c.blockCache(); err != nil || o != (cache.Options{Dir: "/blocks", Limit: want}) {
			t.Errorf("%q: %+v, %v", size, o, err)
		}
	}
	t.Setenv(cache.DirVariable, "/elsewhere")
	t.Setenv(cache.SizeVariable, "2GiB")
	c, _ := prepared(t, map[string]any{"ebs_direct": true})
	o, err := c.blockCache()
	if err == nil {
		o, err = cache.FromEnvironment(o)
	}
	if err != nil || o != (cache.Options{Dir: "/elsewhere", Limit: 2 << 30}) {
		t.Errorf("of the environment: %+v, %v", o, err)
	}
}

// TestRegionOfADirectBuild: the region comes from the template, the environment or a profile. The error
// without one does not demand an instance, and that of an attached build suggests ebs_direct.
func TestRegionOfADirectBuild(t *testing.T) {
	alone(t)
	base := map[string]any{"region": nil, "instance_id": "i-0123456789abcdef0"}
	dialled := func(more map[string]any) error {
		give := maps.Clone(base)
		maps.Copy(give, more)
		c, _ := prepared(t, give)
		_, err := c.dial(t.Context())
		return err
	}
	err := dialled(map[string]any{"ebs_direct": true})
	says(t, err, "no region is given", "AWS_REGION")
	if strings.Contains(err.Error(), "must run on an EC2 instance") {
		t.Errorf("the error is %v", err)
	}
	says(t, dialled(map[string]any{"ebs_direct": true, "skip_metadata_api_check": true}), "no region is given", "skip_metadata_api_check")
	t.Setenv("AWS_REGION", "eu-west-1")
	if err := dialled(map[string]any{"ebs_direct": true}); err != nil {
		t.Errorf("with AWS_REGION: %v", err)
	}
	c, _ := prepared(t, map[string]any{"region": "eu-west-1"})
	session, err := c.connect(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	_, err = session.Cloud.Host(t.Context())
	says(t, err, "no metadata service", "set ebs_direct")
}
