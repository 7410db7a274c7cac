# Shows: An image with NitroTPM and UEFI. It must start, and have /dev/tpm0, on an instance type
#   that supports it.
# Cost: 0.01
# Image: TpmSupport = v2.0
# Image: BootMode = uefi

source "amazon-chroot" "tpm" {
  region           = var.region
  source_ami       = var.source
  ami_name         = "${var.run} tpm"
  tags             = local.tags
  snapshot_tags    = local.tags
  root_volume_tags = local.tags
  boot_mode        = "uefi"
  tpm_support      = "v2.0"
}

build {
  sources = ["source.amazon-chroot.tpm"]

  provisioner "shell" {
    inline = ["echo tpm > /etc/packer-chroot-real"]
  }
}
