//go:build !linux

package bake

import "errors"

func reserve(string, []DeviceName) (DeviceName, func() error, error) {
	return "", nil, errors.ErrUnsupported
}

func inUse(DevicePath) error { return errors.ErrUnsupported }

func keepFiles() error { return nil }
