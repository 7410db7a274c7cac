# Shows: A root volume of type gp2, larger than the source.
# Cost: 0.01
# Image: BlockDeviceMappings.0.Bsu.VolumeType = gp2

source "osc-chroot" "gp2" {
  region           = var.region
  source_omi       = var.source
  omi_name         = "${var.run} gp2"
  tags             = local.tags
  snapshot_tags    = local.tags
  root_volume_tags = local.tags
  root_volume_type = "gp2"
  root_volume_size = 20
}

build {
  sources = ["source.osc-chroot.gp2"]

  provisioner "shell" {
    inline = ["echo gp2 > /etc/packer-chroot-real"]
  }
}
