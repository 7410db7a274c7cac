# Shows: The build is killed during provisioning; reap unmounts, unlinks and deletes its
#   resources.
# Cost: 0.01
# Kill: ready to be killed

source "osc-chroot" "kill" {
  region           = var.region
  source_omi       = var.source
  omi_name         = "${var.run} kill"
  tags             = local.tags
  snapshot_tags    = local.tags
  root_volume_tags = local.tags
}

build {
  sources = ["source.osc-chroot.kill"]

  provisioner "shell" {
    inline = ["echo ready to be killed", "sleep 3600"]
  }
}
