# Shows: While other programs of the account are throttled (503 with code 6, 429 with codes 24
#   and 25), the build is slower but succeeds.
# Cost: 0.01
# Flood: yes
# Image: State = available

source "osc-chroot" "throttled" {
  region           = var.region
  source_omi       = var.source
  omi_name         = "${var.run} throttled"
  tags             = local.tags
  snapshot_tags    = local.tags
  root_volume_tags = local.tags
}

build {
  sources = ["source.osc-chroot.throttled"]

  provisioner "shell" {
    inline = ["echo throttled > /etc/packer-chroot-real"]
  }
}
