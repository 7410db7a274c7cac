// Command packer-plugin-amazon-chroot is the Packer plugin that contains the builder
// amazon-chroot. Packer starts it and communicates with it through standard output.
package main

import "github.com/packer-chroot/packer-plugin-chroot/amazon"

func main() { amazon.Plugin.Main() }
