# Shows: In an account with encryption by default, a build without encryption options creates an
#   encrypted image and prints no false message. Set REAL_DEFAULT_ENCRYPTION=yes if this account
#   encrypts by default.
# Cost: 0.01
# Needs: REAL_DEFAULT_ENCRYPTION
# Image: BlockDeviceMappings.0.Ebs.Encrypted = true
# Snapshot: Encrypted = true

source "amazon-chroot" "default-encryption" {
  region           = var.region
  source_ami       = var.source
  ami_name         = "${var.run} default-encryption"
  tags             = local.tags
  snapshot_tags    = local.tags
  root_volume_tags = local.tags
}

build {
  sources = ["source.amazon-chroot.default-encryption"]

  provisioner "shell" {
    inline = ["echo default-encryption > /etc/packer-chroot-real"]
  }
}
