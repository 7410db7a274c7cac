# Shows: Image and snapshot have their tags, with the template fields of the source.
# Cost: 0.01
# Image: Tags.source = *
# Image: Tags.packer-chroot-real = *
# Snapshot: Tags.packer-chroot-real = *

source "osc-chroot" "tags" {
  region           = var.region
  source_omi       = var.source
  omi_name         = "${var.run} tags"
  omi_description  = "from {{ .SourceOMI }} in {{ .BuildRegion }}"
  tags             = merge(local.tags, { source = "{{ .SourceOMIName }}" })
  snapshot_tags    = local.tags
  root_volume_tags = local.tags
}

build {
  sources = ["source.osc-chroot.tags"]

  provisioner "shell" {
    inline = ["echo tags > /etc/packer-chroot-real"]
  }
}
