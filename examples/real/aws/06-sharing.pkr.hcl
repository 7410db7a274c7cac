# Shows: Image and snapshot are shared with another account, which can describe and launch the
#   image.
# Cost: 0.01
# Needs: REAL_OTHER_ACCOUNT
# Image: Public = false

source "amazon-chroot" "sharing" {
  region           = var.region
  source_ami       = var.source
  ami_name         = "${var.run} sharing"
  tags             = local.tags
  snapshot_tags    = local.tags
  root_volume_tags = local.tags
  ami_users        = [var.other_account]
  snapshot_users   = [var.other_account]
}

build {
  sources = ["source.amazon-chroot.sharing"]

  provisioner "shell" {
    inline = ["echo sharing > /etc/packer-chroot-real"]
  }
}
