# The variables of all builds in this directory. `make` sets run, region, budget_key and
# budget_value. It reads every other variable x from REAL_X in the environment.
packer {
  required_plugins {
    amazon-chroot = {
      source  = "github.com/packer-chroot/amazon-chroot"
      version = ">= 1.0.0"
    }
  }
}

variable "run" {
  type        = string
  description = "The ID of the run, which tags all resources."
}

variable "region" {
  type        = string
  description = "The region that this host is in."
}

variable "budget_key" {
  type        = string
  description = "The key of the tag for the bill."
}

variable "budget_value" {
  type        = string
  description = "The value of the tag for the bill."
}

variable "source" {
  type        = string
  description = "The image to build from: of a Linux with a shell, for this host's architecture."
}

variable "second_region" {
  type        = string
  default     = ""
  description = "Another region of the account, for copies."
}

variable "kms_key" {
  type        = string
  default     = ""
  description = "A customer managed key of the region, as an ARN or an alias."
}

variable "second_kms_key" {
  type        = string
  default     = ""
  description = "A customer managed key of the other region."
}

variable "other_account" {
  type        = string
  default     = ""
  description = "The ID of an account to share with."
}

variable "secure_boot_source" {
  type        = string
  default     = ""
  description = "An image with UEFI data that has keys of Secure Boot."
}

locals {
  tags = {
    "packer-chroot-real" = var.run
    (var.budget_key)     = var.budget_value
  }
}
