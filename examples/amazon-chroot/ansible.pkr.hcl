# Provisions with Ansible: see docs/ansible.md. The image needs Python, as every machine that Ansible
# manages.
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

source "amazon-chroot" "ansible" {
  source_ami = var.source
  ami_name   = "packer-amazon-chroot-ansible ${formatdate("YYYYMMDD-hhmmss", timestamp())}"
}

build {
  sources = ["source.amazon-chroot.ansible"]

  # The inventory contains one host, named after the directory where the root is mounted.
  provisioner "shell-local" {
    environment_vars = ["LC_ALL=C.UTF-8"]
    inline = [
      "ansible-playbook --connection community.general.chroot --inventory '${build.MountPath},' --extra-vars 'device=${build.Device}' ${path.root}/ansible-playbook.yml"
    ]
  }
}
