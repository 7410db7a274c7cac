# Shows: Image and snapshot are shared with another account, which can describe and launch the
#   image.
# Cost: 0.01
# Needs: REAL_OTHER_ACCOUNT
# Image: PermissionsToLaunch.AccountIds.0 = *
# Snapshot: PermissionsToCreateVolume.AccountIds.0 = *

source "osc-chroot" "sharing" {
  region           = var.region
  source_omi       = var.source
  omi_name         = "${var.run} sharing"
  tags             = local.tags
  snapshot_tags    = local.tags
  root_volume_tags = local.tags
  omi_account_ids  = [var.other_account]
  snapshot_users   = [var.other_account]
}

build {
  sources = ["source.osc-chroot.sharing"]

  provisioner "shell" {
    inline = ["echo sharing > /etc/packer-chroot-real"]
  }
}
