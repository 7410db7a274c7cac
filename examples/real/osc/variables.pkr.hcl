# The variables of all builds in this directory. `make` sets run, region, budget_key and
# budget_value. It reads every other variable x from REAL_X in the environment.
packer {
  required_plugins {
    osc-chroot = {
      source  = "github.com/packer-chroot/osc-chroot"
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

variable "foreign_source" {
  type        = string
  default     = ""
  description = "An image of another account, such as one of Outscale's own."
}

variable "licensed_source" {
  type        = string
  default     = ""
  description = "An image with a product code."
}

variable "other_account" {
  type        = string
  default     = ""
  description = "The ID of an account to share with."
}

locals {
  tags = {
    "packer-chroot-real" = var.run
    (var.budget_key)     = var.budget_value
  }
}
