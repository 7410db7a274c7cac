# Shows: In an account that blocks public AMIs, which is the default, a build of a public AMI is
#   refused before anything is created. Set REAL_BLOCK_PUBLIC_ACCESS=yes only if this
#   account blocks them; otherwise the image becomes public.
# Cost: 0.00
# Needs: REAL_BLOCK_PUBLIC_ACCESS
# Fails: block public access
# Lacks: Creating the root volume

source "amazon-chroot" "block-public-access" {
  region           = var.region
  source_ami       = var.source
  ami_name         = "${var.run} block-public-access"
  tags             = local.tags
  snapshot_tags    = local.tags
  root_volume_tags = local.tags
  ami_groups       = ["all"]
}

build {
  sources = ["source.amazon-chroot.block-public-access"]

  provisioner "shell" {
    inline = ["echo block-public-access > /etc/packer-chroot-real"]
  }
}
