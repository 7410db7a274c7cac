# Shows: Image, snapshot and volume have their tags from their creation on, with the template
#   fields of the source.
# Cost: 0.01
# Image: Tags.source = *
# Image: Tags.packer-chroot-real = *
# Snapshot: Tags.source = *
# Snapshot: Tags.packer-chroot-real = *

source "amazon-chroot" "tags" {
  region           = var.region
  source_ami       = var.source
  ami_name         = "${var.run} tags"
  ami_description  = "from {{ .SourceAMI }} in {{ .BuildRegion }}"
  tags             = merge(local.tags, { source = "{{ .SourceAMIName }}" })
  snapshot_tags    = merge(local.tags, { source = "{{ .SourceAMI }}" })
  root_volume_tags = local.tags
}

build {
  sources = ["source.amazon-chroot.tags"]

  provisioner "shell" {
    inline = ["echo tags > /etc/packer-chroot-real"]
  }
}
