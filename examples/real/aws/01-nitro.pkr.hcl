# Shows: On a Nitro instance the disk is found by its NVMe serial number, and provisioners get
#   its kernel name.
# Cost: 0.01
# Says: the disk is /dev/nvme
# Image: State = available

source "amazon-chroot" "nitro" {
  region           = var.region
  source_ami       = var.source
  ami_name         = "${var.run} nitro"
  tags             = local.tags
  snapshot_tags    = local.tags
  root_volume_tags = local.tags
}

build {
  sources = ["source.amazon-chroot.nitro"]

  provisioner "shell" {
    environment_vars = ["DISK=${build.Device}"]
    inline           = ["echo the disk is $DISK"]
  }
}
