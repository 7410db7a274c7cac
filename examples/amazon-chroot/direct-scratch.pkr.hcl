# An AMI from an archive of a root file system, built without an instance and without a volume. It has no source AMI, so
# nothing is read from AWS, and the blocks that the archive fills are uploaded.
packer {
  required_plugins {
    amazon-chroot = {
      source  = "github.com/packer-chroot/amazon-chroot"
      version = ">= 1.0.0"
    }
  }
}

variable "archive" {
  type        = string
  default     = "root.tar"
  description = "A tar archive of a root file system, with the boot loader's files."
}

source "amazon-chroot" "direct-scratch" {
  ebs_direct              = true
  from_scratch            = true
  ami_name                = "packer-direct-scratch ${formatdate("YYYYMMDD-hhmmss", timestamp())}"
  ami_virtualization_type = "hvm"
  root_volume_size        = 2
  root_device_name        = "/dev/xvda"

  ami_block_device_mappings {
    device_name           = "/dev/xvda"
    delete_on_termination = true
    volume_type           = "gp3"
  }

  # mkfs discards the device first, which is quick: blocks that were never written are not uploaded.
  pre_mount_commands = [
    "parted --script {{.Device}} mklabel msdos mkpart primary ext4 1MiB 100% set 1 boot on",
    "mkfs.ext4 -q -L root {{.Device}}1"
  ]
  post_mount_commands = [
    "tar -C {{.MountPath}} --numeric-owner -xf ${var.archive}"
  ]
}

build {
  sources = ["source.amazon-chroot.direct-scratch"]

  provisioner "shell" {
    inline = ["echo 'LABEL=root / ext4 errors=remount-ro 0 1' > /etc/fstab"]
  }
}
