package osc

import (
	"testing"

	"github.com/packer-chroot/packer-plugin-chroot/builder/buildertest"
)

func TestOptionsPageNamesTests(t *testing.T) {
	buildertest.Page(t, Plugin, "../docs/options-osc.md", "ami_block_device_mappings")
}
