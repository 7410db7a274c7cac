# Provisions with Ansible: see docs/ansible.md. The image needs Python, as every machine that Ansible
# manages.
packer {
  required_plugins {
    osc-chroot = {
      source  = "github.com/packer-chroot/osc-chroot"
      version = ">= 1.0.0"
    }
  }
}

variable "source" {
  type        = string
  description = "The OMI to start from."
}

source "osc-chroot" "ansible" {
  source_omi = var.source
  omi_name   = "packer-osc-chroot-ansible ${formatdate("YYYYMMDD-hhmmss", timestamp())}"
}

build {
  sources = ["source.osc-chroot.ansible"]

  # The inventory contains one host, named after the directory where the root is mounted.
  provisioner "shell-local" {
    environment_vars = ["LC_ALL=C.UTF-8"]
    inline = [
      "ansible-playbook --connection community.general.chroot --inventory '${build.MountPath},' --extra-vars 'device=${build.Device}' ${path.root}/ansible-playbook.yml"
    ]
  }
}
