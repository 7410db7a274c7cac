# Shows: The build is killed during provisioning, as by the loss of a spot instance; reap
#   unmounts, detaches and deletes its resources.
# Cost: 0.01
# Kill: ready to be killed

source "amazon-chroot" "spot-kill" {
  region           = var.region
  source_ami       = var.source
  ami_name         = "${var.run} spot-kill"
  tags             = local.tags
  snapshot_tags    = local.tags
  root_volume_tags = local.tags
}

build {
  sources = ["source.amazon-chroot.spot-kill"]

  provisioner "shell" {
    inline = ["echo ready to be killed", "sleep 3600"]
  }
}
