package faults

import (
	"testing"

	"github.com/packer-chroot/packer-plugin-chroot/acceptance/harness"
)

func TestMain(m *testing.M) { harness.Main(m) }
