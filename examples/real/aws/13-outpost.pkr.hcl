# Shows: On an instance on an Outpost the volume is created on the Outpost. Set REAL_OUTPOST=yes
#   if this host is on one.
# Cost: 0.01
# Needs: REAL_OUTPOST
# Image: State = available

source "amazon-chroot" "outpost" {
  region           = var.region
  source_ami       = var.source
  ami_name         = "${var.run} outpost"
  tags             = local.tags
  snapshot_tags    = local.tags
  root_volume_tags = local.tags
}

build {
  sources = ["source.amazon-chroot.outpost"]

  provisioner "shell" {
    inline = ["echo outpost > /etc/packer-chroot-real"]
  }
}
