package osc

import (
	"context"

	"github.com/packer-chroot/packer-plugin-chroot/builder"
)

// Plugin is the Packer plugin with the builder osc-chroot.
var Plugin = builder.Plugin{Kind: kind, Options: func() builder.Options { return new(Config) }}

// Job implements builder.Options.
func (c *Config) Job() builder.Job {
	return builder.Job{
		Kind:       kind,
		Config:     &c.Config,
		Packer:     c.PackerConfig,
		ImageName:  c.OMIName,
		LabelTexts: c.labelTexts(),
		Connect:    c.connect,
	}
}

// SetReach implements builder.Options.
func (c *Config) SetReach(to builder.Reach) {
	c.Region, c.Profile, c.CustomEndpointOAPI = to.Region, to.Profile, to.Endpoint
}

// connect reaches the API once, and returns the Cloud of this build.
func (c *Config) connect(ctx context.Context, log func(format string, args ...any)) (builder.Session, error) {
	client, err := Dial(ctx, c.access())
	if err != nil {
		return builder.Session{}, err
	}
	cloud := NewCloud(client, c, log)
	if from := client.RegionFrom(); from != "" {
		cloud.logf("region %s, from %s", client.Region(), from)
	}
	return builder.Session{Cloud: cloud, Endpoint: client.Endpoint()}, nil
}

// access is how the API is reached.
func (c *Config) access() Access {
	a := c.AccessConfig.access()
	a.WaitLimit = c.WaitLimit()
	return a
}
