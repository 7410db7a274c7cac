# Shows: The disk is found although the kernel gives it a name other than the requested one.
# Cost: 0.01
# Says: the disk is /dev/
# Image: State = available

source "osc-chroot" "device" {
  region           = var.region
  source_omi       = var.source
  omi_name         = "${var.run} device"
  tags             = local.tags
  snapshot_tags    = local.tags
  root_volume_tags = local.tags
}

build {
  sources = ["source.osc-chroot.device"]

  provisioner "shell" {
    environment_vars = ["DISK=${build.Device}"]
    inline           = ["echo the disk is $DISK"]
  }
}
