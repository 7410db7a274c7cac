package amazon

import (
	"testing"

	"github.com/packer-chroot/packer-plugin-chroot/builder/buildertest"
)

func TestOptionsPageNamesTests(t *testing.T) {
	buildertest.Page(t, Plugin, "../docs/options-amazon.md")
}
