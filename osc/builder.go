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
			return connect(ctx, c.access(), c, log)
		},
	}
}

// reach reaches the Outscale API for somebody who has no template.
func reach(ctx context.Context, to builder.Reach) (builder.Session, error) {
	return connect(ctx, Access{Region: to.Region, Profile: to.Profile, Endpoint: to.Endpoint, Patience: to.Patience}, new(Config), nil)
}

// access is how the API is reached.
func (c *Config) access() Access {
	a := c.AccessConfig.access()
	a.Patience = c.Patience()
	return a
}

// connect reaches the Outscale API.
func connect(ctx context.Context, access Access, config *Config, log func(format string, args ...any)) (builder.Session, error) {
	client, err := Dial(ctx, access)
	if err != nil {
		return builder.Session{}, err
	}
	cloud := NewCloud(client, config, log)
	if from := client.RegionFrom(); from != "" {
		cloud.logf("region %s, from %s", client.Region(), from)
	}
	return builder.Session{Cloud: cloud, Endpoint: client.Endpoint()}, nil
}
