// Command packer-plugin-osc-chroot is the Packer plugin with the builder
// osc-chroot. Packer starts it; standard output is its channel to Packer.
package main

import "github.com/packer-chroot/packer-plugin-chroot/osc"

func main() { osc.Plugin.Main() }
