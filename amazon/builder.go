package amazon

import (
	"context"

	"github.com/hashicorp/hcl/v2/hcldec"
	packersdk "github.com/hashicorp/packer-plugin-sdk/packer"

	"github.com/packer-chroot/packer-plugin-chroot/builder"
)

// Builder is the Packer builder amazon-chroot.
type Builder struct {
	config Config
	host   builder.Host
}

var _ packersdk.Builder = (*Builder)(nil)

// ConfigSpec implements packersdk.Builder.
func (b *Builder) ConfigSpec() hcldec.ObjectSpec { return b.config.FlatMapstructure().HCL2Spec() }

// Prepare implements packersdk.Builder.
func (b *Builder) Prepare(raws ...any) (generated, warnings []string, err error) {
	warnings, err = b.config.Prepare(raws...)
	return kind.GeneratedData(), warnings, err
}

// Run implements packersdk.Builder.
func (b *Builder) Run(ctx context.Context, ui packersdk.Ui, hook packersdk.Hook) (packersdk.Artifact, error) {
	return builder.Run(ctx, ui, hook, builder.Job{
		Kind:        kind,
		Config:      &b.config.Config,
		Packer:      b.config.PackerConfig,
		ImageName:   b.config.AMIName,
		Description: b.config.AMIDescription,

		RootThroughput: b.config.RootVolumeThroughput,
		Waits:          b.config.AWSPolling.waits(),

		Connect: b.config.connect,
		Host:    b.host,
	})
}

// access is how AWS is reached.
func (c *Config) access() Access {
	a := c.AccessConfig.access()
	a.Patience = c.Patience()
	return a
}

// connect reaches EC2.
func (c *Config) connect(ctx context.Context, log func(format string, args ...any)) (builder.Session, error) {
	client, err := Dial(ctx, c.access())
	if err != nil {
		return builder.Session{}, err
	}
	options := c.options()
	options.Client, options.Log = client, log
	return builder.Session{Cloud: NewCloud(options), Endpoint: client.Endpoint()}, nil
}

// options are what only AWS understands of the configuration.
func (c *Config) options() Options {
	o := Options{
		ImageName:                c.AMIName,
		FromScratch:              c.FromScratch,
		SourceAMI:                c.SourceAMI,
		SourceFilter:             c.SourceAMIFilter.filter(),
		Architecture:             c.AMIArchitecture,
		VirtualizationType:       c.AMIVirtualizationType,
		RootDeviceName:           c.RootDeviceName,
		ENASupport:               c.ENASupport.ToBoolPointer(),
		SRIOVSupport:             c.SRIOVSupport,
		BootMode:                 c.BootMode,
		UEFIData:                 c.UEFIData,
		TPMSupport:               c.TPMSupport,
		IMDSSupport:              c.IMDSSupport,
		RootVolumeEncrypt:        c.encryptsRoot(),
		RootVolumeKMSKeyID:       c.RootVolumeKMSKeyID,
		EncryptBoot:              c.EncryptBoot.ToBoolPointer(),
		KMSKeyID:                 c.KMSKeyID,
		Users:                    c.AMIUsers,
		Groups:                   c.AMIGroups,
		OrgARNs:                  c.AMIOrgARNs,
		OUARNs:                   c.AMIOUARNs,
		SnapshotUsers:            c.SnapshotUsers,
		SnapshotGroups:           c.SnapshotGroups,
		ProductCodes:             c.AMIProductCodes,
		DeprecateAt:              c.deprecation(),
		DeregistrationProtection: c.DeregistrationProtection.protection(),
		Regions:                  c.regions(),
		RegionKMSKeyIDs:          c.RegionKMSKeyIDs,
		SkipRegionValidation:     c.SkipRegionValidation,
		SkipSaveBuildRegion:      c.SkipSaveBuildRegion,
		SnapshotCopyMinutes:      c.SnapshotCopyDurationMinutes,
	}
	for _, device := range c.AMIBlockDeviceMappings {
		o.Mappings = append(o.Mappings, device.mapping())
	}
	return o
}
