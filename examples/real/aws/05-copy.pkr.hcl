# Shows: The image is copied to a second region with its tags, and the build prints the
#   progress.
# Cost: 0.05
# Needs: REAL_SECOND_REGION
# Copy: State = available
# Copy: Tags.packer-chroot-real = *

source "amazon-chroot" "copy" {
  region           = var.region
  source_ami       = var.source
  ami_name         = "${var.run} copy"
  tags             = local.tags
  snapshot_tags    = local.tags
  root_volume_tags = local.tags
  ami_regions      = [var.second_region]
}

build {
  sources = ["source.amazon-chroot.copy"]

  provisioner "shell" {
    inline = ["echo copy > /etc/packer-chroot-real"]
  }
}
