# Shows: The image has the product codes of the source, and so its licence.
# Cost: 0.01
# Needs: REAL_LICENSED_SOURCE
# Image: ProductCodes.0 = *

source "osc-chroot" "product-codes" {
  region           = var.region
  source_omi       = var.licensed_source
  omi_name         = "${var.run} product-codes"
  tags             = local.tags
  snapshot_tags    = local.tags
  root_volume_tags = local.tags
}

build {
  sources = ["source.osc-chroot.product-codes"]

  provisioner "shell" {
    inline = ["echo product-codes > /etc/packer-chroot-real"]
  }
}
