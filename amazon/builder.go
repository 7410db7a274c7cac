package amazon

import (
	"context"

	"github.com/packer-chroot/packer-plugin-chroot/builder"
)

// Plugin is the Packer plugin with the builder amazon-chroot.
var Plugin = builder.Plugin{Kind: kind, Options: func() builder.Options { return new(Config) }}

// Job implements builder.Options.
func (c *Config) Job() builder.Job {
	blockCache, _ := c.blockCache() // Prepare has reported an error
	return builder.Job{
		Kind:           kind,
		Config:         &c.Config,
		Packer:         c.PackerConfig,
		ImageName:      c.AMIName,
		LabelTexts:     c.labelTexts(),
		RootThroughput: c.RootVolumeThroughput,
		Waits:          c.waits(),
		Direct:         c.EBSDirect,
		BlockCache:     blockCache,
		Connect:        c.connect,
	}
}

// SetReach implements builder.Options.
func (c *Config) SetReach(to builder.Reach) {
	c.Region, c.Profile, c.CustomEndpointEC2 = to.Region, to.Profile, to.Endpoint
}

// connect finds keys and region, and returns the Cloud of this build.
func (c *Config) connect(ctx context.Context, log func(format string, args ...any)) (builder.Session, error) {
	client, err := c.dial(ctx)
	if err != nil {
		return builder.Session{}, err
	}
	if c.MFACode != "" && !client.wantsCode && log != nil {
		log("Warning: mfa_code is not used: no profile with an mfa_serial gives the keys")
	}
	return builder.Session{Cloud: NewCloud(client, c, log), Endpoint: client.Endpoint()}, nil
}

// dial makes the client of the build.
func (c *Config) dial(ctx context.Context) (*Client, error) {
	if c.EBSDirect {
		return dialDirect(ctx, c.AccessConfig, c.WaitLimit())
	}
	return Dial(ctx, c.AccessConfig, c.WaitLimit())
}
