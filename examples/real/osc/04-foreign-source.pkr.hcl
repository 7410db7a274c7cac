# Shows: A source of another account is copied first, and the copy is removed afterwards.
# Cost: 0.02
# Needs: REAL_FOREIGN_SOURCE
# Image: State = available

source "osc-chroot" "foreign-source" {
  region           = var.region
  source_omi       = var.foreign_source
  omi_name         = "${var.run} foreign-source"
  tags             = local.tags
  snapshot_tags    = local.tags
  root_volume_tags = local.tags
}

build {
  sources = ["source.osc-chroot.foreign-source"]

  provisioner "shell" {
    inline = ["echo foreign-source > /etc/packer-chroot-real"]
  }
}
