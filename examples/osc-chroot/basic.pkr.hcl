packer {
  required_plugins {
    osc-chroot = {
      source  = "github.com/packer-chroot/osc-chroot"
      version = ">= 1.0.0"
    }
  }
}

variable "source" {
  type        = string
  description = "The OMI to start from."
}

source "osc-chroot" "basic" {
  source_omi      = var.source
  omi_name        = "packer-osc-chroot ${formatdate("YYYYMMDD-hhmmss", timestamp())}"
  omi_description = "made from {{ .SourceOMI }} in {{ .BuildRegion }}"
  tags            = { made-by = "packer" }
  report          = "osc-chroot.report.html"
}

build {
  sources = ["source.osc-chroot.basic"]

  provisioner "shell" {
    inline = ["echo \"built from ${var.source} with osc-chroot\" > /etc/motd"]
  }

  post-processor "manifest" {
    output = "osc-chroot.manifest.json"
  }
}
