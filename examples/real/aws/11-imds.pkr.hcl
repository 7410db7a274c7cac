# Shows: On an instance with IMDSv2 only and a hop limit of 1 the build finds its instance; and
#   the image has IMDSv2 only.
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
