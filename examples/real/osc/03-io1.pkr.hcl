# Shows: A root volume of type io1 with 500 IOPS.
# Cost: 0.01
# Image: BlockDeviceMappings.0.Bsu.VolumeType = io1
# Image: BlockDeviceMappings.0.Bsu.Iops = 500

source "osc-chroot" "io1" {
  region           = var.region
  source_omi       = var.source
  omi_name         = "${var.run} io1"
  tags             = local.tags
  snapshot_tags    = local.tags
  root_volume_tags = local.tags
  root_volume_type = "io1"
  root_volume_size = 10
  root_volume_iops = 500
}

build {
  sources = ["source.osc-chroot.io1"]

  provisioner "shell" {
    inline = ["echo io1 > /etc/packer-chroot-real"]
  }
}
