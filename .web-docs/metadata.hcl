# The builders, for Packer's web site. The pages are made from docs/builders by make generate.
integration {
  name        = "Chroot"
  description = "Build AWS and Outscale images inside a chroot on the VM that Packer runs on, without launching another."
  identifier  = "packer/packer-chroot/chroot"
  flags       = []
  docs {
    process_docs    = true
    readme_location = "./README.md"
    external_url    = "https://github.com/packer-chroot/packer-plugin-chroot"
  }
  license {
    type = "MPL-2.0"
    url  = "https://github.com/packer-chroot/packer-plugin-chroot/blob/main/LICENSE"
  }
  component {
    type = "builder"
    name = "Amazon chroot"
    slug = "amazon-chroot"
  }
  component {
    type = "builder"
    name = "Outscale chroot"
    slug = "osc-chroot"
  }
}
