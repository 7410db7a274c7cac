# Shows: encrypt_boot with a key per region: both images are encrypted, and the intermediate
#   unencrypted image is removed.
# Cost: 0.06
# Needs: REAL_SECOND_REGION REAL_KMS_KEY REAL_SECOND_KMS_KEY
# Image: BlockDeviceMappings.0.Ebs.Encrypted = true
# Copy: BlockDeviceMappings.0.Ebs.Encrypted = true

source "amazon-chroot" "encrypted-copy" {
  region             = var.region
  source_ami         = var.source
  ami_name           = "${var.run} encrypted-copy"
  tags               = local.tags
  snapshot_tags      = local.tags
  root_volume_tags   = local.tags
  encrypt_boot       = true
  kms_key_id         = var.kms_key
  ami_regions        = [var.second_region]
  region_kms_key_ids = { (var.second_region) = var.second_kms_key }
}

build {
  sources = ["source.amazon-chroot.encrypted-copy"]

  provisioner "shell" {
    inline = ["echo encrypted-copy > /etc/packer-chroot-real"]
  }
}
