// Command packer-plugin-amazon-chroot is the Packer plugin with the builder
// amazon-chroot. Packer starts it; standard output is its channel to Packer.
package main

import (
	"fmt"
	"log"
	"os"

	packersdk "github.com/hashicorp/packer-plugin-sdk/packer"
	"github.com/hashicorp/packer-plugin-sdk/plugin"

	"github.com/packer-chroot/packer-plugin-chroot/amazon"
	"github.com/packer-chroot/packer-plugin-chroot/chroot"
	"github.com/packer-chroot/packer-plugin-chroot/version"
)

func main() {
	chroot.MaybeKeep()
	amazon.MaybeReap()

	packersdk.LogSecretFilter.SetOutput(os.Stderr)
	log.SetOutput(&packersdk.LogSecretFilter)

	set := plugin.NewSet()
	set.RegisterBuilder(plugin.DEFAULT_NAME, new(amazon.Builder))
	set.SetVersion(version.Plugin)
	if err := set.Run(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
