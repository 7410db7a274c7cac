# Shows: The second build replaces the image of the first, and deletes its snapshot.
# Cost: 0.01
# Runs: 2
# Image: State = available

source "osc-chroot" "force-deregister" {
  region                = var.region
  source_omi            = var.source
  omi_name              = "${var.run} force-deregister"
  tags                  = local.tags
  snapshot_tags         = local.tags
  root_volume_tags      = local.tags
  force_deregister      = true
  force_delete_snapshot = true
}

build {
  sources = ["source.osc-chroot.force-deregister"]

  provisioner "shell" {
    inline = ["echo force-deregister > /etc/packer-chroot-real"]
  }
}
