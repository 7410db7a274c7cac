# Shows: An image with both boot modes, which starts in either.
# Cost: 0.01
# Image: BootModes.0 = *
# Image: BootModes.1 = *

source "osc-chroot" "boot-modes" {
  region           = var.region
  source_omi       = var.source
  omi_name         = "${var.run} boot-modes"
  tags             = local.tags
  snapshot_tags    = local.tags
  root_volume_tags = local.tags
  omi_boot_modes   = ["legacy", "uefi"]
}

build {
  sources = ["source.osc-chroot.boot-modes"]

  provisioner "shell" {
    inline = ["echo boot-modes > /etc/packer-chroot-real"]
  }
}
