# Shows: A build from an empty volume with a new file system.
# Cost: 0.01
# Image: State = available

source "osc-chroot" "from-scratch" {
  region             = var.region
  omi_name           = "${var.run} from-scratch"
  tags               = local.tags
  snapshot_tags      = local.tags
  root_volume_tags   = local.tags
  from_scratch       = true
  root_volume_size   = 2
  root_device_name   = "/dev/sda1"
  mount_partition    = "0"
  pre_mount_commands = ["mkfs.ext4 -q {{.Device}}"]

  omi_block_device_mappings {
    device_name           = "/dev/sda1"
    delete_on_vm_deletion = true
    volume_type           = "standard"
  }
}

build {
  sources = ["source.osc-chroot.from-scratch"]

  provisioner "shell-local" {
    environment_vars = ["ROOT=${build.MountPath}"]
    inline           = ["mkdir -p $ROOT/etc && cp /etc/os-release $ROOT/etc/"]
  }
}
