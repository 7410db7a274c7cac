# Shows: Boot mode and UEFI data, including the keys of Secure Boot, are those of the source.
# Cost: 0.01
# Needs: REAL_SECURE_BOOT_SOURCE
# Image: BootMode = *
# Image: UefiData = *

source "amazon-chroot" "secure-boot" {
  region           = var.region
  ami_name         = "${var.run} secure-boot"
  tags             = local.tags
  snapshot_tags    = local.tags
  root_volume_tags = local.tags
  source_ami       = var.secure_boot_source
}

build {
  sources = ["source.amazon-chroot.secure-boot"]

  provisioner "shell" {
    inline = ["echo secure-boot > /etc/packer-chroot-real"]
  }
}
