# A Debian from scratch that boots with UEFI, with an EFI system partition, one ext4 file system and
# GRUB. The host needs debootstrap, parted, dosfstools and mtools, which writes to the EFI system
# partition without mounting it.
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
  packages = "linux-image-cloud-amd64,grub-efi-amd64-bin,grub2-common,systemd-sysv,udev"
}

source "amazon-chroot" "debian-uefi" {
  ami_name                = "debian-${var.suite}-uefi ${formatdate("YYYYMMDD-hhmmss", timestamp())}"
  from_scratch            = true
  ami_virtualization_type = "hvm"
  boot_mode               = "uefi"
  root_volume_size        = 2
  root_device_name        = "/dev/xvda"

  ami_block_device_mappings {
    device_name           = "/dev/xvda"
    delete_on_termination = true
    volume_type           = "gp2"
  }

  # An EFI system partition cannot be the root, so the second partition is mounted.
  pre_mount_commands = [
    "parted --script {{.Device}} mklabel gpt mkpart EFI fat32 1MiB 65MiB set 1 esp on mkpart root ext4 65MiB 100%",
    "mkfs.vfat -F 32 -n EFI {{.Device}}1",
    "mkfs.ext4 -q -L root {{.Device}}2"
  ]
  post_mount_commands = [
    "debootstrap --variant=minbase --include=${local.packages} ${local.cached} ${var.suite} {{.MountPath}} ${var.mirror}"
  ]
  pre_unmount_commands = [
    "mmd -i {{.Device}}1 ::/EFI ::/EFI/BOOT",
    "mcopy -i {{.Device}}1 {{.MountPath}}/boot/grub/bootx64.efi ::/EFI/BOOT/BOOTX64.EFI"
  ]
}

build {
  sources = ["source.amazon-chroot.debian-uefi"]

  # The root is mounted by its label, because its disk may have any name at boot. The serial console
  # is the one that the cloud shows. A firmware without a boot entry for the disk starts
  # /EFI/BOOT/BOOTX64.EFI. This is a standalone GRUB that reads the menu in the root, so a kernel
  # update need not change the EFI system partition.
  provisioner "shell" {
    inline = [
      "echo 'LABEL=root / ext4 errors=remount-ro 0 1' > /etc/fstab",
      "echo 'LABEL=EFI /boot/efi vfat umask=0077,nofail 0 1' >> /etc/fstab",
      "mkdir -p /boot/efi /boot/grub",
      "echo debian > /etc/hostname",
      "printf '[Match]\\nType=ether\\n[Network]\\nDHCP=yes\\n' > /etc/systemd/network/80-dhcp.network",
      "systemctl enable systemd-networkd",
      "printf 'GRUB_TIMEOUT=0\\nGRUB_TERMINAL=\"console serial\"\\nGRUB_SERIAL_COMMAND=\"serial --speed=115200\"\\n' > /etc/default/grub",
      "echo 'GRUB_CMDLINE_LINUX=\"root=LABEL=root console=tty0 console=ttyS0,115200\"' >> /etc/default/grub",
      "update-grub",
      "echo 'search --label root --set root; configfile ($root)/boot/grub/grub.cfg' > /tmp/grub.cfg",
      "grub-mkstandalone --format=x86_64-efi --modules='part_gpt ext2' --output=/boot/grub/bootx64.efi --locales= --fonts= --themes= boot/grub/grub.cfg=/tmp/grub.cfg",
      "rm /tmp/grub.cfg"
    ]
  }
}
