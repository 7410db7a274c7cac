package builder

import (
	"context"
	"fmt"
	"log"
	"os"

	"github.com/hashicorp/hcl/v2/hcldec"
	packersdk "github.com/hashicorp/packer-plugin-sdk/packer"
	"github.com/hashicorp/packer-plugin-sdk/plugin"

	"github.com/packer-chroot/packer-plugin-chroot/chroot"
	"github.com/packer-chroot/packer-plugin-chroot/lazydisk"
	"github.com/packer-chroot/packer-plugin-chroot/version"
)

// Options are all options of one cloud's builder: Config, and those of this cloud only.
type Options interface {
	// FlatMapstructure is generated. It returns the specification of the options for HCL2.
	FlatMapstructure() interface{ HCL2Spec() map[string]hcldec.Spec }
	// Prepare decodes Packer's options and returns everything that is wrong at once.
	Prepare(raws ...any) (warnings []string, err error)
	// Job is the build that the options ask for, once they are prepared.
	Job() Job
	// SetReach sets where the cloud is and which profile has the keys, for the command reap.
	SetReach(Reach)
}

// Builder is the Packer builder of a cloud's options.
type Builder struct {
	Options Options
	// Host is where it builds.
	Host Host
}

var _ packersdk.Builder = (*Builder)(nil)

// ConfigSpec implements packersdk.Builder.
func (b *Builder) ConfigSpec() hcldec.ObjectSpec { return b.Options.FlatMapstructure().HCL2Spec() }

// Prepare implements packersdk.Builder.
func (b *Builder) Prepare(raws ...any) (generated, warnings []string, err error) {
	warnings, err = b.Options.Prepare(raws...)
	return b.Options.Job().GeneratedData(), warnings, err
}

// Run implements packersdk.Builder.
func (b *Builder) Run(ctx context.Context, ui packersdk.Ui, hook packersdk.Hook) (packersdk.Artifact, error) {
	job := b.Options.Job()
	job.Host = b.Host
	artifact, err := Run(ctx, ui, hook, job)
	return artifact, redacted(err)
}

// Plugin is a Packer plugin with the builder of one cloud.
type Plugin struct {
	Kind Kind
	// Options makes the options of one builder, before they are prepared.
	Options func() Options
}

// program is the plugin's file name, by which Packer knows it.
func (p Plugin) program() string { return "packer-plugin-" + p.Kind.Type }

// Main runs the plugin's program: as Packer starts it, as the keeper or the block server of a build,
// or as a command of a user. It returns only from the first.
func (p Plugin) Main() {
	hideEnvironment()
	log.SetOutput(hidden.writer(os.Stderr))
	lazydisk.Main()
	chroot.MaybeRunKeeper()
	MaybeReap(Reaper{Program: p.program(), Kind: p.Kind, Connect: p.Connect})
	p.MaybeAnswer()

	set := plugin.NewSet()
	set.RegisterBuilder(plugin.DEFAULT_NAME, &Builder{Options: p.Options()})
	set.SetVersion(version.Plugin)
	if err := set.Run(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
