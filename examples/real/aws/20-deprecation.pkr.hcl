# Shows: The image has a deprecation time and deregistration protection.
# Cost: 0.01
# Image: DeprecationTime = *
# Image: DeregistrationProtection = *

source "amazon-chroot" "deprecation" {
  region           = var.region
  source_ami       = var.source
  ami_name         = "${var.run} deprecation"
  tags             = local.tags
  snapshot_tags    = local.tags
  root_volume_tags = local.tags
  deprecate_at     = timeadd(timestamp(), "720h")

  deregistration_protection {
    enabled = true
  }
}

build {
  sources = ["source.amazon-chroot.deprecation"]

  provisioner "shell" {
    inline = ["echo deprecation > /etc/packer-chroot-real"]
  }
}
