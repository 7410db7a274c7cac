# Shows: The root volume, and so the snapshot, is encrypted with a customer managed key; the
#   policy of docs/iam-policy.md is sufficient.
# Cost: 0.01
# Needs: REAL_KMS_KEY
# Snapshot: Encrypted = true
# Snapshot: KmsKeyId = *

source "amazon-chroot" "kms-key" {
  region                   = var.region
  source_ami               = var.source
  ami_name                 = "${var.run} kms-key"
  tags                     = local.tags
  snapshot_tags            = local.tags
  root_volume_tags         = local.tags
  root_volume_encrypt_boot = true
  root_volume_kms_key_id   = var.kms_key
}

build {
  sources = ["source.amazon-chroot.kms-key"]

  provisioner "shell" {
    inline = ["echo kms-key > /etc/packer-chroot-real"]
  }
}
