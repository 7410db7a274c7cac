package amazon

import (
	"context"

	"github.com/packer-chroot/packer-plugin-chroot/builder"
)

// Plugin is the Packer plugin with the builder amazon-chroot.
var Plugin = builder.Plugin{Kind: kind, Options: func() builder.Options { return new(Config) }, Reach: reach}

// Job implements builder.Options.
func (c *Config) Job() builder.Job {
	return builder.Job{
		Kind:        kind,
		Config:      &c.Config,
		Packer:      c.PackerConfig,
		ImageName:   c.AMIName,
		Description: c.AMIDescription,

		RootThroughput: c.RootVolumeThroughput,
		Waits:          c.waits(),

		Connect: func(ctx context.Context, log func(format string, args ...any)) (builder.Session, error) {
			options := c.options()
			options.Log = log
			return connect(ctx, c.access(), options)
		},
	}
}

// reach reaches EC2 for somebody who has no template.
func reach(ctx context.Context, to builder.Reach) (builder.Session, error) {
	return connect(ctx, Access{Region: to.Region, Profile: to.Profile, Endpoint: to.Endpoint, Patience: to.Patience}, Options{})
}

// access is how AWS is reached.
func (c *Config) access() Access {
	a := c.AccessConfig.access()
	a.Patience = c.Patience()
	return a
}

// connect reaches EC2.
func connect(ctx context.Context, access Access, options Options) (builder.Session, error) {
	client, err := Dial(ctx, access)
	if err != nil {
		return builder.Session{}, err
	}
	options.Client = client
	if access.MFACode != "" && !client.wantsCode && options.Log != nil {
		options.Log("Warning: mfa_code is not used: no profile with an mfa_serial gives the keys")
	}
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
		Repartitions:             len(c.PreMountCommands) > 0,
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
