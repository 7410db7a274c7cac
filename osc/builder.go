package osc

import (
	"context"

	"github.com/packer-chroot/packer-plugin-chroot/builder"
)

// Plugin is the Packer plugin with the builder osc-chroot.
var Plugin = builder.Plugin{Kind: kind, Options: func() builder.Options { return new(Config) }, Reach: reach}

// Job implements builder.Options.
func (c *Config) Job() builder.Job {
	return builder.Job{
		Kind:        kind,
		Config:      &c.Config,
		Packer:      c.PackerConfig,
		ImageName:   c.OMIName,
		Description: c.OMIDescription,

		Connect: func(ctx context.Context, log func(format string, args ...any)) (builder.Session, error) {
			options := c.options()
			options.Log = log
			return connect(ctx, c.access(), options)
		},
	}
}

// reach reaches the Outscale API for somebody who has no template.
func reach(ctx context.Context, to builder.Reach) (builder.Session, error) {
	return connect(ctx, Access{Region: to.Region, Profile: to.Profile, Endpoint: to.Endpoint, Patience: to.Patience}, Options{})
}

// access is how the API is reached.
func (c *Config) access() Access {
	a := c.AccessConfig.access()
	a.Patience = c.Patience()
	return a
}

// connect reaches the Outscale API.
func connect(ctx context.Context, access Access, options Options) (builder.Session, error) {
	client, err := Dial(ctx, access)
	if err != nil {
		return builder.Session{}, err
	}
	options.Client = client
	if from := client.RegionFrom(); from != "" {
		options.log("region %s, from %s", client.Region(), from)
	}
	return builder.Session{Cloud: NewCloud(options), Endpoint: client.Endpoint()}, nil
}

// options are what only Outscale understands of the configuration.
func (c *Config) options() Options {
	o := Options{
		ImageName:            c.OMIName,
		FromScratch:          c.FromScratch,
		VirtualizationType:   c.OMIVirtualizationType,
		RootDeviceName:       c.RootDeviceName,
		RootVolumeType:       c.RootVolumeType,
		RootVolumeIOPS:       c.RootVolumeIOPS,
		BootModes:            c.OMIBootModes,
		TPMMandatory:         c.TPMMandatory.ToBoolPointer(),
		ProductCodes:         c.ProductCodes,
		AccountIDs:           c.OMIAccountIDs,
		GlobalPermission:     c.GlobalPermission,
		SnapshotUsers:        c.SnapshotUsers,
		SnapshotGroups:       c.SnapshotGroups,
		SkipRegionValidation: c.SkipRegionValidation,
	}
	if !c.FromScratch {
		o.SourceOMI, o.SourceFilter = c.SourceOMI, c.SourceOMIFilter.filter()
	}
	for _, device := range c.OMIBlockDeviceMappings {
		o.Mappings = append(o.Mappings, device.mapping())
	}
	return o
}
