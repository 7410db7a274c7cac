package osc

import (
	"context"

	"github.com/hashicorp/hcl/v2/hcldec"
	packersdk "github.com/hashicorp/packer-plugin-sdk/packer"

	"github.com/packer-chroot/packer-plugin-chroot/builder"
)

// Builder is the Packer builder osc-chroot.
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
		ImageName:   b.config.OMIName,
		Description: b.config.OMIDescription,
		Connect:     b.config.connect,
		Host:        b.host,
	})
}

// access is how the API is reached.
func (c *Config) access() Access {
	a := c.AccessConfig.access()
	a.Patience = c.Patience()
	return a
}

// connect reaches the Outscale API.
func (c *Config) connect(ctx context.Context, log func(format string, args ...any)) (builder.Session, error) {
	client, err := Dial(ctx, c.access())
	if err != nil {
		return builder.Session{}, err
	}
	packersdk.LogSecretFilter.Set(client.access.AccessKey, client.access.SecretKey)
	options := c.options()
	options.Client, options.Log = client, log
	return builder.Session{Cloud: NewCloud(options), Endpoint: client.access.Endpoint}, nil
}
