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
			return connect(ctx, c.access(), c, log)
		},
	}
}

// reach reaches EC2 for somebody who has no template.
func reach(ctx context.Context, to builder.Reach) (builder.Session, error) {
	return connect(ctx, Access{Region: to.Region, Profile: to.Profile, Endpoint: to.Endpoint, Patience: to.Patience}, new(Config), nil)
}

// access is how AWS is reached.
func (c *Config) access() Access {
	a := c.AccessConfig.access()
	a.Patience = c.Patience()
	return a
}

// connect reaches EC2.
func connect(ctx context.Context, access Access, config *Config, log func(format string, args ...any)) (builder.Session, error) {
	client, err := Dial(ctx, access)
	if err != nil {
		return builder.Session{}, err
	}
	if access.MFACode != "" && !client.wantsCode && log != nil {
		log("Warning: mfa_code is not used: no profile with an mfa_serial gives the keys")
	}
	return builder.Session{Cloud: NewCloud(client, config, log), Endpoint: client.Endpoint()}, nil
}
