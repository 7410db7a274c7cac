# An AMI of another AMI, built without an instance and without a volume. The build needs root privileges on any Linux host
# that has loop devices and /dev/fuse. docs/direct.md describes such builds and their costs.
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

variable "region" {
  type        = string
  default     = ""
  description = "The region of the AMI. Defaults to that of the environment or the profile."
}

source "amazon-chroot" "direct" {
  ebs_direct      = true
  region          = var.region
  source_ami      = var.source
  ami_name        = "packer-direct ${formatdate("YYYYMMDD-hhmmss", timestamp())}"
  ami_description = "made from {{ .SourceAMI }} in {{ .BuildRegion }}, without an instance"
  tags            = { made-by = "packer" }

  # A larger disk costs nothing while it is empty.
  root_volume_size     = 10
  grow_root_filesystem = true
}

build {
  sources = ["source.amazon-chroot.direct"]

  provisioner "shell" {
    inline = ["echo \"built from ${var.source} without an instance\" > /etc/motd"]
  }
}
