# Shows: While other programs of the account are throttled, the build is slower but succeeds.
# Cost: 0.01
# Flood: yes
# Image: State = available

source "amazon-chroot" "throttled" {
  region           = var.region
  source_ami       = var.source
  ami_name         = "${var.run} throttled"
  tags             = local.tags
  snapshot_tags    = local.tags
  root_volume_tags = local.tags
}

build {
  sources = ["source.amazon-chroot.throttled"]

  provisioner "shell" {
    inline = ["echo throttled > /etc/packer-chroot-real"]
  }
}
