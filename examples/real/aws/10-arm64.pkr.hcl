# Shows: On a Graviton instance an arm64 image is built from an arm64 source, and starts.
# Cost: 0.01
# Host: arm64
# Image: Architecture = arm64

source "amazon-chroot" "arm64" {
  region           = var.region
  source_ami       = var.source
  ami_name         = "${var.run} arm64"
  tags             = local.tags
  snapshot_tags    = local.tags
  root_volume_tags = local.tags
}

build {
  sources = ["source.amazon-chroot.arm64"]

  provisioner "shell" {
    inline = ["echo arm64 > /etc/packer-chroot-real"]
  }
}
