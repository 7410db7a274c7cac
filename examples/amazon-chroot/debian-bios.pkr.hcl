# A Debian from scratch that boots with a BIOS, with an MBR partition table, one ext4 file system and
# GRUB. The host needs debootstrap and parted.
packer {
  required_plugins {
    amazon-chroot = {
      source  = "github.com/packer-chroot/amazon-chroot"
      version = ">= 1.0.0"
    }
  }
}

variable "suite" {
  type        = string
  default     = "bookworm"
  description = "The release of Debian."
}

variable "mirror" {
  type        = string
  default     = ""
  description = "The URL of a Debian mirror. Defaults to the mirror of debootstrap."
}

variable "cache" {
  type        = string
  default     = ""
  description = "A directory for downloaded packages. By default they are not kept."
}

locals {
  cached   = var.cache == "" ? "" : "--cache-dir=${var.cache}"
  packages = "linux-image-cloud-amd64,grub-pc-bin,grub2-common,systemd-sysv,udev"
}

source "amazon-chroot" "debian-bios" {
  ami_name                = "debian-${var.suite}-bios ${formatdate("YYYYMMDD-hhmmss", timestamp())}"
  from_scratch            = true
  ami_virtualization_type = "hvm"
  root_volume_size        = 2
  root_device_name        = "/dev/xvda"

  ami_block_device_mappings {
    device_name           = "/dev/xvda"
    delete_on_termination = true
    volume_type           = "gp2"
  }

  pre_mount_commands = [
    "parted --script {{.Device}} mklabel msdos mkpart primary ext4 1MiB 100% set 1 boot on",
    "mkfs.ext4 -q -L root {{.Device}}1"
  ]
  post_mount_commands = [
    "debootstrap --variant=minbase --include=${local.packages} ${local.cached} ${var.suite} {{.MountPath}} ${var.mirror}"
  ]
}

build {
  sources = ["source.amazon-chroot.debian-bios"]

  # The root is mounted by its label, because its disk may have any name at boot. The serial console
  # is the one that the cloud shows.
  provisioner "shell" {
    environment_vars = ["DEVICE=${build.Device}"]
    inline = [
      "echo 'LABEL=root / ext4 errors=remount-ro 0 1' > /etc/fstab",
      "echo debian > /etc/hostname",
      "printf '[Match]\\nType=ether\\n[Network]\\nDHCP=yes\\n' > /etc/systemd/network/80-dhcp.network",
      "systemctl enable systemd-networkd",
      "printf 'GRUB_TIMEOUT=0\\nGRUB_TERMINAL=\"console serial\"\\nGRUB_SERIAL_COMMAND=\"serial --speed=115200\"\\n' > /etc/default/grub",
      "echo 'GRUB_CMDLINE_LINUX=\"root=LABEL=root console=tty0 console=ttyS0,115200\"' >> /etc/default/grub",
      "grub-install --target=i386-pc $DEVICE",
      "update-grub"
    ]
  }
}
