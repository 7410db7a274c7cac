// Command packer-plugin-amazon-chroot is the Packer plugin with the builder
// amazon-chroot. Packer starts it; standard output is its channel to Packer.
package main

import "github.com/packer-chroot/packer-plugin-chroot/amazon"

func main() { amazon.Plugin.Main() }
