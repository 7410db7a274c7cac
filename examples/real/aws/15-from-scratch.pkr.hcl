# Shows: A build from an empty volume with a new file system; the image contains the files that
#   the shell-local provisioner has copied.
# Cost: 0.01
# Image: BootMode = uefi
# Image: EnaSupport = true

source "amazon-chroot" "from-scratch" {
  region                  = var.region
  ami_name                = "${var.run} from-scratch"
  tags                    = local.tags
  snapshot_tags           = local.tags
  root_volume_tags        = local.tags
  from_scratch            = true
  ami_virtualization_type = "hvm"
  boot_mode               = "uefi"
  ena_support             = true
  root_volume_size        = 2
  root_device_name        = "/dev/xvda"
  mount_partition         = "0"
  pre_mount_commands      = ["mkfs.ext4 -q {{.Device}}"]

  ami_block_device_mappings {
    device_name           = "/dev/xvda"
    delete_on_termination = true
    volume_type           = "gp3"
  }
}

build {
  sources = ["source.amazon-chroot.from-scratch"]

  provisioner "shell-local" {
    environment_vars = ["ROOT=${build.MountPath}"]
    inline           = ["mkdir -p $ROOT/etc && cp /etc/os-release $ROOT/etc/"]
  }
}
