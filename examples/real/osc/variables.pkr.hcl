# The variables of all builds in this directory. make sets run, region and the budget's for the
# run. Every other variable is read from the environment, where its name begins with REAL_.
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
  description = "The id of the run, which everything is tagged with."
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
  description = "The id of an account to share with."
}

locals {
  tags = {
    "packer-chroot-real" = var.run
    (var.budget_key)     = var.budget_value
  }
}
