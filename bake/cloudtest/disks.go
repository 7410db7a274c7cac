package cloudtest

import (
	"context"
	"errors"

	"github.com/packer-chroot/packer-plugin-chroot/bake"
)

func (idle) CheckDirect(context.Context) error { return nil }

func (idle) OpenDisk(context.Context, bake.DirectSpec) (bake.DirectDisk, error) {
	return nil, errors.ErrUnsupported
}

func (idle) FindDisk(context.Context, string) (bake.DevicePath, error) { return "", nil }

func (idle) AbortDisk(context.Context, bake.DiskRecord) error { return nil }

func (idle) CloseDisk(context.Context, bake.DiskRecord) error { return nil }
