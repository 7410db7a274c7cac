package ec2_test

import (
	"slices"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	sdk "github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"

	"github.com/packer-chroot/packer-plugin-chroot/loopcloud/state"
)

func imageIDs(images []types.Image) []string {
	return ids(images, func(i types.Image) *string { return i.ImageId })
}

// TestImageLife registers an image with all attributes and follows it until it is removed.
func TestImageLife(t *testing.T) {
	b := newSlowBox(t, state.Timing{ImageCreate: time.Minute})
	in := b.imageInput("web (1)", func(in *sdk.RegisterImageInput) {
		in.Description, in.BootMode, in.EnaSupport = aws.String("a web server"), types.BootModeValuesUefi, aws.Bool(true)
		in.TpmSupport, in.ImdsSupport, in.SriovNetSupport = types.TpmSupportValuesV20, types.ImdsSupportValuesV20, aws.String("simple")
		in.UefiData = aws.String("QU1aTlVFRkk=")
		in.BlockDeviceMappings[0].Ebs.VolumeType = types.VolumeTypeGp3
		in.BlockDeviceMappings[0].Ebs.VolumeSize = aws.Int32(20)
		in.BlockDeviceMappings = append(in.BlockDeviceMappings,
			types.BlockDeviceMapping{DeviceName: aws.String("/dev/sdb"), VirtualName: aws.String("ephemeral0")},
			types.BlockDeviceMapping{DeviceName: aws.String("/dev/sdc"), NoDevice: aws.String("")},
			types.BlockDeviceMapping{DeviceName: aws.String("/dev/sdd"), Ebs: &types.EbsBlockDevice{VolumeSize: aws.Int32(1), Encrypted: aws.Bool(true), DeleteOnTermination: aws.Bool(false)}},
		)
		in.TagSpecifications = []types.TagSpecification{{ResourceType: types.ResourceTypeImage, Tags: []types.Tag{tag("Role", "web")}}}
	})
	id := *must(b.client.RegisterImage(ctx, in))(b).ImageId
	describe := &sdk.DescribeImagesInput{ImageIds: []string{id}}
	i := must(b.client.DescribeImages(ctx, describe))(b).Images[0]
	if i.State != types.ImageStatePending || *i.Name != "web (1)" || *i.Description != "a web server" || *i.OwnerId != alice ||
		i.BootMode != "uefi" || !*i.EnaSupport || i.TpmSupport != "v2.0" || i.ImdsSupport != "v2.0" || *i.SriovNetSupport != "simple" ||
		i.Architecture != "x86_64" || i.VirtualizationType != "hvm" || *i.RootDeviceName != "/dev/sda1" || i.RootDeviceType != "ebs" ||
		*i.CreationDate != "2026-03-04T05:06:07.890Z" || *i.Public || *i.Tags[0].Value != "web" || i.Hypervisor != "xen" ||
		*i.ImageLocation != alice+"/web (1)" || i.ImageType != "machine" || i.DeprecationTime != nil || i.ImageOwnerAlias != nil {
		t.Errorf("got %+v", i)
	}
	root, virtual, none, data := i.BlockDeviceMappings[0], i.BlockDeviceMappings[1], i.BlockDeviceMappings[2], i.BlockDeviceMappings[3]
	if *root.Ebs.VolumeSize != 20 || root.Ebs.VolumeType != "gp3" || !*root.Ebs.DeleteOnTermination || *root.Ebs.Encrypted ||
		*virtual.VirtualName != "ephemeral0" || virtual.Ebs != nil || none.NoDevice == nil || none.Ebs != nil ||
		!*data.Ebs.Encrypted || *data.Ebs.DeleteOnTermination || data.Ebs.SnapshotId != nil {
		t.Errorf("got %+v %+v %+v %+v", root.Ebs, virtual, none, data.Ebs)
	}
	_, err := b.client.DeleteSnapshot(ctx, &sdk.DeleteSnapshotInput{SnapshotId: root.Ebs.SnapshotId})
	b.refused(err, "InvalidSnapshot.InUse", "The snapshot "+*root.Ebs.SnapshotId+" is currently in use by "+id)
	b.clock.Pass(time.Minute)
	if i := must(b.client.DescribeImages(ctx, describe))(b).Images[0]; i.State != types.ImageStateAvailable {
		t.Errorf("the image is %s", i.State)
	}
	_, err = b.client.DeregisterImage(ctx, &sdk.DeregisterImageInput{ImageId: &id, DryRun: aws.Bool(true)})
	b.refused(err, "DryRunOperation")
	must(b.client.DeregisterImage(ctx, &sdk.DeregisterImageInput{ImageId: &id}))(b)
	_, err = b.client.DescribeImages(ctx, describe)
	b.refused(err, "InvalidAMIID.NotFound", "The image id '["+id+"]' does not exist")
	_, err = b.client.DeregisterImage(ctx, &sdk.DeregisterImageInput{ImageId: &id})
	b.refused(err, "InvalidAMIID.NotFound", id)
	must(b.client.DeleteSnapshot(ctx, &sdk.DeleteSnapshotInput{SnapshotId: root.Ebs.SnapshotId}))(b)
}

func TestRegisterImageRefusals(t *testing.T) {
	b := newBox(t)
	b.image("taken")
	ebs := func(in *sdk.RegisterImageInput) *types.EbsBlockDevice { return in.BlockDeviceMappings[0].Ebs }
	tests := map[string]struct {
		change func(*sdk.RegisterImageInput)
		code   string
	}{
		"empty name":      {func(in *sdk.RegisterImageInput) { in.Name = aws.String("") }, "MissingParameter"},
		"short name":      {func(in *sdk.RegisterImageInput) { in.Name = aws.String("ab") }, "InvalidAMIName.Malformed"},
		"odd name":        {func(in *sdk.RegisterImageInput) { in.Name = aws.String("a:b:c") }, "InvalidAMIName.Malformed"},
		"name taken":      {func(in *sdk.RegisterImageInput) { in.Name = aws.String("taken") }, "InvalidAMIName.Duplicate"},
		"no root":         {func(in *sdk.RegisterImageInput) { in.RootDeviceName = nil }, "MissingParameter"},
		"root not mapped": {func(in *sdk.RegisterImageInput) { in.RootDeviceName = aws.String("/dev/xvda") }, "InvalidBlockDeviceMapping"},
		"mapped twice": {func(in *sdk.RegisterImageInput) {
			in.BlockDeviceMappings = append(in.BlockDeviceMappings, in.BlockDeviceMappings[0])
		}, "InvalidBlockDeviceMapping"},
		"too small":   {func(in *sdk.RegisterImageInput) { ebs(in).VolumeSize = aws.Int32(1) }, "InvalidBlockDeviceMapping"},
		"volume type": {func(in *sdk.RegisterImageInput) { ebs(in).VolumeType = "gp9" }, "InvalidBlockDeviceMapping"},
		"io1 ratio":   {func(in *sdk.RegisterImageInput) { ebs(in).VolumeType, ebs(in).Iops = "io1", aws.Int32(401) }, "InvalidParameterValue"},
		"gp2 iops":    {func(in *sdk.RegisterImageInput) { ebs(in).Iops = aws.Int32(300) }, "InvalidParameterCombination"},
		"key":         {func(in *sdk.RegisterImageInput) { ebs(in).KmsKeyId = aws.String("alias/k") }, "InvalidParameterDependency"},
		"encrypted, key": {func(in *sdk.RegisterImageInput) {
			ebs(in).Encrypted, ebs(in).KmsKeyId = aws.Bool(true), aws.String("alias/k")
		}, "InvalidBlockDeviceMapping"},
		"encrypted":               {func(in *sdk.RegisterImageInput) { ebs(in).Encrypted = aws.Bool(false) }, "InvalidBlockDeviceMapping"},
		"absent snapshot":         {func(in *sdk.RegisterImageInput) { ebs(in).SnapshotId = aws.String("snap-00000000") }, "InvalidSnapshot.NotFound"},
		"snapshot id":             {func(in *sdk.RegisterImageInput) { ebs(in).SnapshotId = aws.String("snap-1") }, "InvalidSnapshotID.Malformed"},
		"architecture":            {func(in *sdk.RegisterImageInput) { in.Architecture = "vax" }, "InvalidParameterValue"},
		"virtualization":          {func(in *sdk.RegisterImageInput) { in.VirtualizationType = aws.String("full") }, "InvalidParameterValue"},
		"boot mode":               {func(in *sdk.RegisterImageInput) { in.BootMode = "bios" }, "InvalidParameterValue"},
		"tpm":                     {func(in *sdk.RegisterImageInput) { in.TpmSupport = "v1.2" }, "InvalidParameterValue"},
		"uefi data":               {func(in *sdk.RegisterImageInput) { in.UefiData = aws.String("not base64") }, "InvalidParameterValue"},
		"TPM, no boot mode":       {func(in *sdk.RegisterImageInput) { in.TpmSupport = "v2.0" }, "InvalidParameterValue"},
		"TPM, preferred":          {func(in *sdk.RegisterImageInput) { in.TpmSupport, in.BootMode = "v2.0", "uefi-preferred" }, "InvalidParameterValue"},
		"TPM, BIOS":               {func(in *sdk.RegisterImageInput) { in.TpmSupport, in.BootMode = "v2.0", "legacy-bios" }, "InvalidParameterValue"},
		"arm64, BIOS":             {func(in *sdk.RegisterImageInput) { in.Architecture, in.BootMode = "arm64", "legacy-bios" }, "InvalidParameterValue"},
		"UEFI data, BIOS":         {func(in *sdk.RegisterImageInput) { in.UefiData, in.BootMode = aws.String("QUJD"), "legacy-bios" }, "InvalidParameterValue"},
		"UEFI data, no boot mode": {func(in *sdk.RegisterImageInput) { in.UefiData, in.Architecture = aws.String("QUJD"), "x86_64" }, "InvalidParameterValue"},
		"paravirtual, ENA": {func(in *sdk.RegisterImageInput) {
			in.VirtualizationType, in.EnaSupport = aws.String("paravirtual"), aws.Bool(true)
		}, "InvalidParameterValue"},
		"paravirtual, SR-IOV": {func(in *sdk.RegisterImageInput) {
			in.VirtualizationType, in.SriovNetSupport = aws.String("paravirtual"), aws.String("simple")
		}, "InvalidParameterValue"},
		"paravirtual, UEFI": {func(in *sdk.RegisterImageInput) {
			in.VirtualizationType, in.BootMode = aws.String("paravirtual"), "uefi"
		}, "InvalidParameterValue"},
		"paravirtual, arm64": {func(in *sdk.RegisterImageInput) {
			in.VirtualizationType, in.Architecture = aws.String("paravirtual"), "arm64"
		}, "InvalidParameterValue"},
		"tags for snapshot": {func(in *sdk.RegisterImageInput) {
			in.TagSpecifications = []types.TagSpecification{{ResourceType: "snapshot"}}
		}, "InvalidParameterValue"},
		"instance store": {func(in *sdk.RegisterImageInput) { in.ImageLocation = aws.String("bucket/manifest") }, "UnknownParameter"},
		"dry run":        {func(in *sdk.RegisterImageInput) { in.DryRun = aws.Bool(true) }, "DryRunOperation"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			b := b.in(t)
			_, err := b.client.RegisterImage(ctx, b.imageInput("new", test.change))
			b.refused(err, test.code)
		})
	}
	if images := b.st.Images(state.Caller{Account: alice, Region: region}); len(images) != 1 {
		t.Errorf("there are %d images", len(images))
	}
}

// TestRegisterImageDefaults checks that the defaults of EC2 are those of 2009.
func TestRegisterImageDefaults(t *testing.T) {
	b := newBox(t)
	id := b.image("bare", func(in *sdk.RegisterImageInput) { in.Architecture, in.VirtualizationType = "", nil })
	i := must(b.client.DescribeImages(ctx, &sdk.DescribeImagesInput{ImageIds: []string{id}}))(b).Images[0]
	if i.Architecture != "i386" || i.VirtualizationType != "paravirtual" || i.EnaSupport != nil || i.BootMode != "" || i.Description != nil {
		t.Errorf("got %+v", i)
	}
}

func TestDescribeImages(t *testing.T) {
	b := newBox(t)
	private := b.image("private-1", func(in *sdk.RegisterImageInput) {
		in.BootMode, in.Architecture = "uefi", "arm64"
		in.TagSpecifications = []types.TagSpecification{{ResourceType: "image", Tags: []types.Tag{tag("env", "test")}}}
	})
	shared, public := b.image("shared-1"), b.image("public-1")
	b.launch(shared, types.LaunchPermission{UserId: aws.String(bob)})
	b.launch(public, types.LaunchPermission{Group: types.PermissionGroupAll})
	all := []string{private, shared, public}
	snapshot := *must(b.client.DescribeImages(ctx, &sdk.DescribeImagesInput{ImageIds: []string{shared}}))(b).Images[0].BlockDeviceMappings[0].Ebs.SnapshotId
	by := func(filters ...types.Filter) sdk.DescribeImagesInput {
		return sdk.DescribeImagesInput{Filters: filters}
	}
	for name, test := range map[string]struct {
		account string
		in      sdk.DescribeImagesInput
		want    []string
	}{
		"own":             {alice, sdk.DescribeImagesInput{Owners: []string{"self"}}, all},
		"bob sees":        {bob, sdk.DescribeImagesInput{}, []string{shared, public}},
		"bob's":           {bob, sdk.DescribeImagesInput{Owners: []string{"self"}}, nil},
		"alice's to bob":  {bob, sdk.DescribeImagesInput{Owners: []string{alice, "amazon"}}, []string{shared, public}},
		"amazon's":        {bob, sdk.DescribeImagesInput{Owners: []string{"amazon"}}, nil},
		"for bob":         {bob, sdk.DescribeImagesInput{ExecutableUsers: []string{"self"}}, []string{shared}},
		"for all":         {alice, sdk.DescribeImagesInput{ExecutableUsers: []string{"all"}}, []string{public}},
		"name":            {alice, by(filter("name", "*-1", "x")), all},
		"name and public": {alice, by(filter("name", "p*-?"), filter("is-public", "false")), []string{private}},
		"machine":         {alice, by(filter("architecture", "arm64"), filter("boot-mode", "uefi")), []string{private}},
		"device": {alice, by(filter("block-device-mapping.snapshot-id", snapshot), filter("block-device-mapping.device-name", "/dev/sda1"),
			filter("block-device-mapping.volume-size", "8"), filter("block-device-mapping.volume-type", "gp2"),
			filter("block-device-mapping.delete-on-termination", "true"), filter("block-device-mapping.encrypted", "false")), []string{shared}},
		"what all are": {alice, by(filter("state", "available"), filter("root-device-type", "ebs"), filter("root-device-name", "/dev/sda1"),
			filter("virtualization-type", "hvm"), filter("hypervisor", "xen"), filter("image-type", "machine"), filter("owner-id", alice),
			filter("ena-support", "false"), filter("creation-date", "2026-03-04T*"), filter("manifest-location", "*/*")), all},
		"what none is": {alice, by(filter("platform", "windows")), nil},
		"id filter":    {alice, by(filter("image-id", private, public)), []string{private, public}},
		"tag":          {alice, by(filter("tag:env", "t*")), []string{private}},
		"tag key":      {alice, by(filter("tag-key", "env")), []string{private}},
		"no alias":     {alice, by(filter("owner-alias", "amazon")), nil},
		"ids, owner":   {alice, sdk.DescribeImagesInput{ImageIds: []string{private}, Owners: []string{bob}}, nil},
		"disabled too": {alice, sdk.DescribeImagesInput{IncludeDisabled: aws.Bool(true), Owners: []string{"self"}}, all},
	} {
		t.Run(name, func(t *testing.T) {
			b := b.in(t)
			out := must(b.as(test.account, region).DescribeImages(ctx, &test.in))(b)
			if got := imageIDs(out.Images); !slices.Equal(got, sorted(slices.Clone(test.want)...)) && len(got)+len(test.want) > 0 {
				t.Errorf("got %v, want %v", got, test.want)
			}
		})
	}
	for code, in := range map[string]sdk.DescribeImagesInput{
		"InvalidAMIID.NotFound":       {ImageIds: []string{private, "ami-00000000", "ami-11111111"}},
		"InvalidAMIID.Malformed":      {ImageIds: []string{"ami-xyz"}},
		"InvalidUserID.Malformed":     {Owners: []string{"me"}},
		"InvalidParameterValue":       {Filters: []types.Filter{filter("size", "8")}},
		"InvalidNextToken":            {NextToken: aws.String("bm9uc2Vuc2U=")},
		"DryRunOperation":             {DryRun: aws.Bool(true)},
		"InvalidParameterCombination": {ImageIds: []string{private}, MaxResults: aws.Int32(2)},
	} {
		_, err := b.client.DescribeImages(ctx, &in)
		b.refused(err, code)
	}
	_, err := b.as(bob, region).DescribeImages(ctx, &sdk.DescribeImagesInput{ImageIds: []string{private}})
	b.refused(err, "InvalidAMIID.NotFound", private)
	_, err = b.as(bob, region).DescribeImages(ctx, &sdk.DescribeImagesInput{ImageIds: []string{"ami-00000000", "ami-11111111"}})
	b.refused(err, "InvalidAMIID.NotFound", "The image ids '[ami-00000000, ami-11111111]' do not exist")
}

func (b *box) launch(image string, with ...types.LaunchPermission) {
	b.Helper()
	must(b.client.ModifyImageAttribute(ctx, &sdk.ModifyImageAttributeInput{
		ImageId: &image, LaunchPermission: &types.LaunchPermissionModifications{Add: with},
	}))(b)
}

func TestDescribeImagesPages(t *testing.T) {
	b := newBox(t)
	var want []string
	for _, name := range []string{"one", "two", "three", "four", "five"} {
		want = append(want, b.image(name))
	}
	pages := sdk.NewDescribeImagesPaginator(b.client, &sdk.DescribeImagesInput{MaxResults: aws.Int32(2)})
	var got []string
	calls := 0
	for ; pages.HasMorePages(); calls++ {
		got = append(got, imageIDs(must(pages.NextPage(ctx))(b).Images)...)
	}
	if !slices.Equal(sorted(got...), sorted(want...)) || calls != 3 {
		t.Errorf("got %v in %d calls, want %v", got, calls, want)
	}
}

func TestImageDeprecation(t *testing.T) {
	b := newBox(t)
	id := b.image("old")
	b.launch(id, types.LaunchPermission{Group: "all"})
	enable := func(at time.Time) error {
		_, err := b.client.EnableImageDeprecation(ctx, &sdk.EnableImageDeprecationInput{ImageId: &id, DeprecateAt: &at})
		return err
	}
	now := b.clock.Now()
	b.refused(enable(now.Add(-time.Hour)), "InvalidParameterValue")
	b.refused(enable(now.AddDate(3, 0, 0)), "InvalidParameterValue", "public")
	b.refused(enable(now.AddDate(11, 0, 0)), "InvalidParameterValue")
	if err := enable(now.Add(time.Hour)); err != nil {
		t.Fatal(err)
	}
	sees := func(account string, in sdk.DescribeImagesInput) bool {
		b.Helper()
		return len(must(b.as(account, region).DescribeImages(ctx, &in))(b).Images) == 1
	}
	if !sees(bob, sdk.DescribeImagesInput{}) {
		t.Error("the image is hidden before its time")
	}
	b.clock.Pass(2 * time.Hour)
	if sees(bob, sdk.DescribeImagesInput{}) {
		t.Error("a deprecated image is listed for others")
	}
	if !sees(bob, sdk.DescribeImagesInput{IncludeDeprecated: aws.Bool(true)}) || !sees(bob, sdk.DescribeImagesInput{ImageIds: []string{id}}) || !sees(alice, sdk.DescribeImagesInput{}) {
		t.Error("a deprecated image is hidden from who asks for it, names it or owns it")
	}
	i := must(b.client.DescribeImages(ctx, &sdk.DescribeImagesInput{ImageIds: []string{id}}))(b).Images[0]
	if *i.DeprecationTime != "2026-03-04T06:06:00.000Z" {
		t.Errorf("deprecated at %s", *i.DeprecationTime)
	}
	_, err := b.as(bob, region).DisableImageDeprecation(ctx, &sdk.DisableImageDeprecationInput{ImageId: &id})
	b.refused(err, "AuthFailure", id)
	must(b.client.DisableImageDeprecation(ctx, &sdk.DisableImageDeprecationInput{ImageId: &id}))(b)
	if !sees(bob, sdk.DescribeImagesInput{}) {
		t.Error("the image is still hidden")
	}
}

func TestCopyImage(t *testing.T) {
	b := newBox(t)
	id := b.image("source", func(in *sdk.RegisterImageInput) {
		in.TagSpecifications = []types.TagSpecification{{ResourceType: "image", Tags: []types.Tag{tag("from", "source")}}}
	})
	there := b.as(alice, other)
	in := &sdk.CopyImageInput{
		SourceImageId: &id, SourceRegion: aws.String(region), Name: aws.String("copy"), CopyImageTags: aws.Bool(true),
		Encrypted: aws.Bool(true), KmsKeyId: aws.String("alias/there"), ClientToken: aws.String("once"),
		TagSpecifications: []types.TagSpecification{
			{ResourceType: "image", Tags: []types.Tag{tag("to", "copy")}},
			{ResourceType: "snapshot", Tags: []types.Tag{tag("of", "copy")}},
		},
	}
	copied := *must(there.CopyImage(ctx, in))(b).ImageId
	if again := *must(there.CopyImage(ctx, in))(b).ImageId; again != copied {
		t.Errorf("one token made %s and %s", copied, again)
	}
	i := must(there.DescribeImages(ctx, &sdk.DescribeImagesInput{ImageIds: []string{copied}}))(b).Images[0]
	ebs := i.BlockDeviceMappings[0].Ebs
	if len(i.Tags) != 2 || *i.SourceImageId != id || *i.SourceImageRegion != region || !*ebs.Encrypted || *ebs.KmsKeyId != state.KeyARN(state.Caller{Account: alice, Region: other}, "alias/there") {
		t.Errorf("got %+v with %+v", i, ebs)
	}
	s := must(there.DescribeSnapshots(ctx, &sdk.DescribeSnapshotsInput{SnapshotIds: []string{*ebs.SnapshotId}}))(b).Snapshots[0]
	if len(s.Tags) != 1 || *s.Tags[0].Key != "of" || !*s.Encrypted {
		t.Errorf("got %+v", s)
	}
	for code, change := range map[string]func(*sdk.CopyImageInput){
		"InvalidAMIID.NotFound":    func(in *sdk.CopyImageInput) { in.SourceImageId = aws.String("ami-00000000") },
		"InvalidRegion":            func(in *sdk.CopyImageInput) { in.SourceRegion = aws.String("mars-1") },
		"InvalidAMIName.Duplicate": func(in *sdk.CopyImageInput) { in.Name = aws.String("copy") },
		"InvalidParameterValue": func(in *sdk.CopyImageInput) {
			in.TagSpecifications = []types.TagSpecification{{ResourceType: "volume"}}
		},
		"InvalidParameterDependency": func(in *sdk.CopyImageInput) { in.KmsKeyId = aws.String("alias/k") },
		"UnknownParameter":           func(in *sdk.CopyImageInput) { in.DestinationOutpostArn = aws.String("arn:aws:outposts:x") },
		"DryRunOperation":            func(in *sdk.CopyImageInput) { in.DryRun = aws.Bool(true) },
	} {
		bad := &sdk.CopyImageInput{SourceImageId: &id, SourceRegion: aws.String(region), Name: aws.String("second")}
		change(bad)
		_, err := there.CopyImage(ctx, bad)
		b.refused(err, code)
	}
}

func TestImageAttributes(t *testing.T) {
	b := newBox(t)
	id := b.image("attributes", func(in *sdk.RegisterImageInput) {
		in.BootMode, in.UefiData, in.TpmSupport, in.SriovNetSupport = "uefi", aws.String("QUJD"), "v2.0", aws.String("simple")
		in.KernelId, in.RamdiskId = aws.String("aki-1"), aws.String("ari-1")
	})
	attribute := func(name types.ImageAttributeName) *sdk.DescribeImageAttributeOutput {
		b.Helper()
		return must(b.client.DescribeImageAttribute(ctx, &sdk.DescribeImageAttributeInput{ImageId: &id, Attribute: name}))(b)
	}
	modify := func(in sdk.ModifyImageAttributeInput) {
		b.Helper()
		in.ImageId = &id
		must(b.client.ModifyImageAttribute(ctx, &in))(b)
	}
	text := func(v *types.AttributeValue) string {
		if v == nil {
			return "(none)"
		}
		return aws.ToString(v.Value)
	}
	modify(sdk.ModifyImageAttributeInput{Description: &types.AttributeValue{Value: aws.String("new form")}})
	if got := text(attribute("description").Description); got != "new form" {
		t.Errorf("description %q", got)
	}
	modify(sdk.ModifyImageAttributeInput{Attribute: aws.String("description"), Value: aws.String("old form")})
	if got := text(attribute("description").Description); got != "old form" {
		t.Errorf("description %q", got)
	}
	modify(sdk.ModifyImageAttributeInput{ImdsSupport: &types.AttributeValue{Value: aws.String("v2.0")}})
	modify(sdk.ModifyImageAttributeInput{ProductCodes: []string{"abc", "def"}})
	for name, got := range map[string]string{
		"v2.0":   text(attribute("imdsSupport").ImdsSupport),
		"uefi":   text(attribute("bootMode").BootMode),
		"QUJD":   text(attribute("uefiData").UefiData),
		"simple": text(attribute("sriovNetSupport").SriovNetSupport),
		"aki-1":  text(attribute("kernel").KernelId),
		"ari-1":  text(attribute("ramdisk").RamdiskId),
	} {
		if got != name {
			t.Errorf("got %q, want %q", got, name)
		}
	}
	if got := text(attribute("tpmSupport").TpmSupport); got != "v2.0" {
		t.Errorf("TPM %q", got)
	}
	if codes := attribute("productCodes").ProductCodes; len(codes) != 2 || *codes[1].ProductCodeId != "def" {
		t.Errorf("product codes %+v", codes)
	}
	_, err := b.client.DescribeImageAttribute(ctx, &sdk.DescribeImageAttributeInput{ImageId: &id, Attribute: "blockDeviceMapping"})
	b.refused(err, "AuthFailure", "restricted")
	if _, err := b.client.DescribeImageAttribute(ctx, &sdk.DescribeImageAttributeInput{ImageId: &id, Attribute: "colour"}); err == nil {
		t.Error("an unknown attribute was described")
	}
}

func TestLaunchPermissions(t *testing.T) {
	b := newBox(t)
	id := b.image("shared")
	const organization = "arn:aws:organizations::111111111111:organization/o-abc"
	const unit = "arn:aws:organizations::111111111111:ou/o-abc/ou-1"
	modify := func(in sdk.ModifyImageAttributeInput) error {
		in.ImageId = &id
		_, err := b.client.ModifyImageAttribute(ctx, &in)
		return err
	}
	permission := aws.String("launchPermission")
	for _, step := range []struct {
		in   sdk.ModifyImageAttributeInput
		want []string
	}{
		{sdk.ModifyImageAttributeInput{Attribute: permission, OperationType: "add", UserIds: []string{bob}, UserGroups: []string{"all"}}, []string{bob, "all"}},
		{sdk.ModifyImageAttributeInput{OperationType: "remove", UserGroups: []string{"all"}}, []string{bob}},
		{sdk.ModifyImageAttributeInput{OperationType: "add", OrganizationArns: []string{organization}, OrganizationalUnitArns: []string{unit}}, []string{bob, organization, unit}},
		{sdk.ModifyImageAttributeInput{Attribute: permission, LaunchPermission: &types.LaunchPermissionModifications{
			Add:    []types.LaunchPermission{{UserId: aws.String(amazon)}},
			Remove: []types.LaunchPermission{{UserId: aws.String(bob)}, {OrganizationArn: aws.String(organization)}},
		}}, []string{amazon, unit}},
		{sdk.ModifyImageAttributeInput{UserIds: []string{bob}, LaunchPermission: &types.LaunchPermissionModifications{
			Add: []types.LaunchPermission{{UserId: aws.String(bob)}},
		}}, []string{amazon, bob, unit}},
	} {
		if err := modify(step.in); err != nil {
			t.Fatal(err)
		}
		out := must(b.client.DescribeImageAttribute(ctx, &sdk.DescribeImageAttributeInput{ImageId: &id, Attribute: "launchPermission"}))(b)
		got := ids(out.LaunchPermissions, func(p types.LaunchPermission) *string {
			return aws.String(aws.ToString(p.UserId) + string(p.Group) + aws.ToString(p.OrganizationArn) + aws.ToString(p.OrganizationalUnitArn))
		})
		if !slices.Equal(got, sorted(step.want...)) {
			t.Errorf("shared with %v, want %v", got, step.want)
		}
	}
	some := &types.AttributeValue{Value: aws.String("x")}
	for name, test := range map[string]struct {
		in   sdk.ModifyImageAttributeInput
		code string
	}{
		"nothing":       {sdk.ModifyImageAttributeInput{}, "InvalidParameterCombination"},
		"two":           {sdk.ModifyImageAttributeInput{Description: some, ImdsSupport: some}, "InvalidParameterCombination"},
		"other name":    {sdk.ModifyImageAttributeInput{Attribute: permission, Description: some}, "InvalidParameterCombination"},
		"unknown":       {sdk.ModifyImageAttributeInput{Attribute: aws.String("kernel")}, "InvalidParameterValue"},
		"no value":      {sdk.ModifyImageAttributeInput{Attribute: aws.String("description")}, "MissingParameter"},
		"no items":      {sdk.ModifyImageAttributeInput{Attribute: permission}, "MissingParameter"},
		"no codes":      {sdk.ModifyImageAttributeInput{Attribute: aws.String("productCodes")}, "MissingParameter"},
		"no operation":  {sdk.ModifyImageAttributeInput{UserIds: []string{bob}}, "MissingParameter"},
		"both forms":    {sdk.ModifyImageAttributeInput{UserIds: []string{bob}, LaunchPermission: &types.LaunchPermissionModifications{Add: []types.LaunchPermission{{UserId: aws.String(amazon)}}}}, "InvalidParameterCombination"},
		"user":          {sdk.ModifyImageAttributeInput{UserIds: []string{"1"}, OperationType: "add"}, "InvalidAMIAttributeItemValue"},
		"organization":  {sdk.ModifyImageAttributeInput{OrganizationArns: []string{"o-abc"}, OperationType: "add"}, "InvalidAMIAttributeItemValue"},
		"imds":          {sdk.ModifyImageAttributeInput{ImdsSupport: some}, "InvalidParameterValue"},
		"dry run":       {sdk.ModifyImageAttributeInput{Description: some, DryRun: aws.Bool(true)}, "DryRunOperation"},
		"dry run users": {sdk.ModifyImageAttributeInput{UserIds: []string{bob}, OperationType: "add", DryRun: aws.Bool(true)}, "DryRunOperation"},
	} {
		t.Run(name, func(t *testing.T) { b.in(t).refused(modify(test.in), test.code) })
	}
	public := b.as(amazon, region)
	_, err := public.ModifyImageAttribute(ctx, &sdk.ModifyImageAttributeInput{ImageId: &id, Description: some})
	b.refused(err, "AuthFailure", "Not authorized for image:"+id)
	_, err = public.DescribeImageAttribute(ctx, &sdk.DescribeImageAttributeInput{ImageId: &id, Attribute: "description"})
	b.refused(err, "AuthFailure", id, "is not its owner")
	_, err = public.DeregisterImage(ctx, &sdk.DeregisterImageInput{ImageId: &id})
	b.refused(err, "AuthFailure", id)
}
