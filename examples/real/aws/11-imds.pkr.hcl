# Shows: On an instance that requires IMDSv2, with a hop limit of 1, the build identifies its
#   instance; the image requires IMDSv2 too.
# Cost: 0.01
# Image: ImdsSupport = v2.0

source "amazon-chroot" "imds" {
  region           = var.region
  source_ami       = var.source
  ami_name         = "${var.run} imds"
  tags             = local.tags
  snapshot_tags    = local.tags
  root_volume_tags = local.tags
  imds_support     = "v2.0"
}

build {
  sources = ["source.amazon-chroot.imds"]

  provisioner "shell" {
    inline = ["echo imds > /etc/packer-chroot-real"]
  }
}
