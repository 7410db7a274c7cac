package main

import (
	"testing"

	"github.com/packer-chroot/packer-plugin-chroot/builder/buildertest"
)

func TestPlugin(t *testing.T) { buildertest.Binary(t) }
