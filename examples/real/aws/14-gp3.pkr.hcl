# Shows: A gp3 root with throughput and IOPS above the baseline; the image has both.
# Cost: 0.01
# Image: BlockDeviceMappings.0.Ebs.VolumeType = gp3
# Image: BlockDeviceMappings.0.Ebs.Iops = 4000
# Image: BlockDeviceMappings.0.Ebs.Throughput = 250

source "amazon-chroot" "gp3" {
  region                 = var.region
  source_ami             = var.source
  ami_name               = "${var.run} gp3"
  tags                   = local.tags
  snapshot_tags          = local.tags
  root_volume_tags       = local.tags
  root_volume_type       = "gp3"
  root_volume_size       = 10
  root_volume_iops       = 4000
  root_volume_throughput = 250
}

build {
  sources = ["source.amazon-chroot.gp3"]

  provisioner "shell" {
    inline = ["echo gp3 > /etc/packer-chroot-real"]
  }
}
