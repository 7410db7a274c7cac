# Shows: On an instance in a Local Zone the volume is created in that zone, and the snapshot in
#   the region. Set REAL_LOCAL_ZONE=yes if this host is in a Local Zone.
# Cost: 0.01
# Needs: REAL_LOCAL_ZONE
# Image: State = available

source "amazon-chroot" "local-zone" {
  region           = var.region
  source_ami       = var.source
  ami_name         = "${var.run} local-zone"
  tags             = local.tags
  snapshot_tags    = local.tags
  root_volume_tags = local.tags
}

build {
  sources = ["source.amazon-chroot.local-zone"]

  provisioner "shell" {
    inline = ["echo local-zone > /etc/packer-chroot-real"]
  }
}
