packer {
  required_plugins {
    amazon-chroot = {
      source  = "github.com/packer-chroot/amazon-chroot"
      version = ">= 1.0.0"
    }
  }
}

variable "source" {
  type        = string
  description = "The AMI to start from."
}

source "amazon-chroot" "basic" {
  source_ami      = var.source
  ami_name        = "packer-amazon-chroot ${formatdate("YYYYMMDD-hhmmss", timestamp())}"
  ami_description = "made from {{ .SourceAMI }} in {{ .BuildRegion }}"
  tags            = { made-by = "packer" }
  report          = "amazon-chroot.report.html"
}

build {
  sources = ["source.amazon-chroot.basic"]

  provisioner "shell" {
    inline = ["echo \"built from ${var.source} with amazon-chroot\" > /etc/motd"]
  }

  post-processor "manifest" {
    output = "amazon-chroot.manifest.json"
  }
}
