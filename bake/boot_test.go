package bake_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/packer-chroot/packer-plugin-chroot/bake"
	"github.com/packer-chroot/packer-plugin-chroot/chroot"
	"github.com/packer-chroot/packer-plugin-chroot/disk"
)

func TestMountBoot(t *testing.T) {
	boot := disk.BootMount{Target: "/boot", Device: "/dev/xvdf2", Type: "ext4"}
	efi := disk.BootMount{Target: "/boot/efi", Device: "/dev/xvdf1", Type: "vfat", Optional: true}
	unknown := func(m disk.BootMount) disk.BootMount { m.Type = "unknown"; return m }
	tests := []struct {
		name   string
		fstab  string
		boot   []disk.BootMount
		change func(*bake.Plan)
		events string
		warns  string
		fails  string
	}{
		{name: "turned off", fstab: "x", boot: []disk.BootMount{boot}, change: func(p *bake.Plan) { p.MountBoot = false }},
		{name: "no fstab", boot: []disk.BootMount{boot}},
		{name: "both, before the others", fstab: "text", boot: []disk.BootMount{boot, efi}, events: `, fstab "text", mount /boot, mount /boot/efi`},
		{
			name: "the user mounts it", fstab: "text", boot: []disk.BootMount{boot}, events: `, fstab "text", mount boot/`,
			change: func(p *bake.Plan) {
				p.Mounts = append([]chroot.ExtraMount{{Type: "bind", Source: "/x", Target: "boot/"}}, p.Mounts...)
			},
		},
		{
			name: "not on the disk", fstab: "text", boot: []disk.BootMount{{Target: "/boot", Lack: "no partition is it"}, efi},
			events: `, fstab "text", mount /boot/efi`, warns: "going on without /boot of the image's fstab: no partition is it",
		},
		{name: "a kernel without vfat", fstab: "text", boot: []disk.BootMount{boot, unknown(efi)}, events: `, fstab "text", mount /boot`, warns: "going on without /boot/efi: unknown"},
		{name: "a kernel without its type", fstab: "text", boot: []disk.BootMount{unknown(boot)}, fails: "mount_boot = false turns it off"},
		{name: "an endless one", fstab: strings.Repeat("x", 2<<20), boot: []disk.BootMount{boot}, warns: "going on without the image's fstab: it is longer"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			in(t, func(t *testing.T, w *world) {
				w.fstab, w.boot = tt.fstab, tt.boot
				plan := w.plan()
				plan.MountBoot = true
				if tt.change != nil {
					tt.change(&plan)
				}
				result, err := w.build(t.Context(), plan)
				w.asItShould(result, err)
				if tt.fails != "" {
					if err == nil || !strings.Contains(err.Error(), tt.fails) {
						t.Errorf("error %v; want %q in it", err, tt.fails)
					}
					return
				}
				want := "shell ls /mnt/root" + tt.events + ", mount /proc"
				if got := strings.Join(w.events, ", "); err != nil || !strings.Contains(got, want) {
					t.Errorf("%v: %s; want %q in it", err, got, want)
				}
				if warned := slices.ContainsFunc(w.told, func(s string) bool { return strings.HasPrefix(s, "warn: "+tt.warns) }); tt.warns != "" && !warned {
					t.Errorf("told %q; want a warning %q", w.told, tt.warns)
				}
			})
		})
	}
}

func TestGrowRoot(t *testing.T) {
	for _, fails := range []string{"", "grow partition#1", "grow file system#1"} {
		t.Run(fails, func(t *testing.T) {
			in(t, func(t *testing.T, w *world) {
				if fails != "" {
					w.faults[fails] = fault{act: fails, err: errInjected}
				}
				plan := w.plan()
				plan.GrowRoot = true
				result, err := w.build(t.Context(), plan)
				w.asItShould(result, err)
				if (fails == "") != (err == nil) {
					t.Errorf("the build ended with %v", err)
				}
				if fails != "" && !strings.Contains(err.Error(), "grow_root_filesystem") {
					t.Errorf("error %v does not name the option", err)
				}
				got := strings.Join(w.events, ", ")
				if want := "settle, grow /dev/xvdf1, mount, grow /mnt/root, shell ls"; fails == "" && !strings.Contains(got, want) {
					t.Errorf("%s; want %q in it", got, want)
				}
			})
		})
	}
}
