//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"time"

	"github.com/packer-chroot/packer-plugin-chroot/loopcloud"
	"github.com/packer-chroot/packer-plugin-chroot/loopcloud/qemu"
	"github.com/packer-chroot/packer-plugin-chroot/remove"
)

// The default machine.
const (
	bootMemory = 1024 // in MiB
	bootLimit  = 5 * time.Minute
)

// bootFlags are the options of booting an image.
type bootFlags struct {
	at location
	// uefi is nil if the image decides.
	uefi    *bool
	memory  int
	timeout time.Duration
	until   string
	kvm     qemu.KVM
}

// parseBoot parses the options and the ID of the image.
func parseBoot(args []string) (flags *bootFlags, id string, err error) {
	b := &bootFlags{kvm: qemu.Auto}
	fs := newFlags("image boot")
	b.at.register(fs)
	fs.IntVar(&b.memory, "memory", bootMemory, "")
	fs.DurationVar(&b.timeout, "timeout", bootLimit, "")
	fs.StringVar(&b.until, "until", qemu.LoginPrompt, "")
	fs.BoolFunc("uefi", "", func(s string) error {
		uefi, err := strconv.ParseBool(s)
		b.uefi = &uefi
		return err
	})
	fs.Func("kvm", "", func(s string) (err error) {
		b.kvm, err = qemu.ParseKVM(s)
		return err
	})
	rest, err := parseAnywhere(fs, args)
	switch {
	case err != nil:
		return nil, "", err
	case len(rest) != 1:
		return nil, "", misused("image boot: one ID is needed, not %d", len(rest))
	case b.memory <= 0:
		return nil, "", misused("image boot: --memory %d is no number of MiB", b.memory)
	case b.timeout <= 0:
		return nil, "", misused("image boot: --timeout %v is no time to boot in", b.timeout)
	case b.until == "":
		return nil, "", misused("image boot: --until is empty; give a text that the console shows")
	}
	return b, rest[0], b.at.check("image boot")
}

// imageBoot boots a copy of an image's disk, and shows the console until the awaited text
// appears.
func (p *program) imageBoot(ctx context.Context, args []string) error {
	flags, id, err := parseBoot(args)
	if err != nil {
		return err
	}
	var img loopcloud.Image
	var disk *os.File
	err = flags.at.read(func(all images) (err error) {
		if img, err = imageIn(ctx, all, id); err == nil {
			disk, err = exported(ctx, all, id)
		}
		return err
	})
	if err != nil {
		return fmt.Errorf("cannot boot %s: %w", id, err)
	}
	defer disk.Close()
	m := qemu.Machine{
		Disk: disk, UEFI: flags.wantsUEFI(img), MemoryMiB: flags.memory, KVM: flags.kvm, Console: p.stdout,
		Log: func(format string, args ...any) { fmt.Fprintf(p.stderr, "loopcloud: "+format+"\n", args...) },
	}
	if err := m.Boot(ctx, flags.until, flags.timeout); err != nil {
		return fmt.Errorf("cannot boot %s: %w", id, err)
	}
	_, err = fmt.Fprintln(p.stdout) // a prompt does not end the line
	return err
}

// wantsUEFI reports whether to boot with UEFI. Without an option the image decides, as in the
// cloud: an image with both modes boots in the preferred one.
func (b *bootFlags) wantsUEFI(img loopcloud.Image) bool {
	if b.uefi != nil {
		return *b.uefi
	}
	return img.BootMode == "uefi" || img.BootMode == "uefi-preferred"
}

// imageIn returns an image if a machine here can run it.
func imageIn(ctx context.Context, all images, id string) (loopcloud.Image, error) {
	list, err := all.Images(ctx)
	if err != nil {
		return loopcloud.Image{}, err
	}
	i := slices.IndexFunc(list, func(img loopcloud.Image) bool { return img.ID == id })
	if i < 0 {
		return loopcloud.Image{}, fmt.Errorf("the image does not exist")
	}
	if arch := list[i].Architecture; arch == "arm64" {
		return loopcloud.Image{}, fmt.Errorf("its architecture is %s, and the machine is an x86_64 PC", arch)
	}
	return list[i], nil
}

// exported returns a copy of an image's disk. Closing it frees its space.
func exported(ctx context.Context, all images, id string) (_ *os.File, err error) {
	dir, err := os.MkdirTemp("", "loopcloud-boot-*")
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, remove.All(dir)) }()
	file := filepath.Join(dir, "disk")
	if err := all.Export(ctx, id, file); err != nil {
		return nil, err
	}
	return os.OpenFile(file, os.O_RDWR, 0)
}
