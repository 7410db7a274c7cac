// Command packer-plugin-osc-chroot is the Packer plugin that contains the builder
// osc-chroot. Packer starts it and communicates with it through standard output.
package main

import "github.com/packer-chroot/packer-plugin-chroot/osc"

func main() { osc.Plugin.Main() }
