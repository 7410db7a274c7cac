package bake_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/packer-chroot/packer-plugin-chroot/bake"
	"github.com/packer-chroot/packer-plugin-chroot/chroot"
	"github.com/packer-chroot/packer-plugin-chroot/disk"
)

func TestMountFstab(t *testing.T) {
	boot := disk.FstabMount{Target: "/boot", Spec: "LABEL=boot", Device: "/dev/xvdf2", Type: "ext4"}
	efi := disk.FstabMount{Target: "/boot/efi", Spec: "LABEL=efi", Device: "/dev/xvdf1", Type: "vfat", Optional: true}
	usr := disk.FstabMount{Target: "/usr", Spec: "LABEL=usr", Device: "/dev/xvdf3", Type: "ext4", Optional: true}
	home := disk.FstabMount{Target: "/home", Spec: "LABEL=home", Device: "/dev/xvdf4", Type: "ext4"}
	of := func(m disk.FstabMount, kind string) disk.FstabMount { m.Type = kind; return m }
	lacks := func(m disk.FstabMount, why string) disk.FstabMount {
		return disk.FstabMount{Target: m.Target, Spec: m.Spec, Lack: why, Optional: m.Optional}
	}
	noted := home
	noted.Note = "a later entry mounts LABEL=x there"
	type list []disk.FstabMount
	tests := []struct {
		name    string
		fstab   string
		mounts  list
		mounted []string
		change  func(*bake.Plan)
		events  string
		warns   string
		fails   string
	}{
		{name: "turned off", fstab: "x", mounts: list{boot}, change: func(p *bake.Plan) { p.MountFstab = false }},
		{name: "no fstab", mounts: list{boot}},
		{name: "all, before the others", fstab: "text", mounts: list{boot, efi, home}, events: `, fstab "text", mount /boot, mount /boot/efi, mount /home`},
		{
			name: "the user mounts it", fstab: "text", mounts: list{boot}, events: `, fstab "text", mount boot/`,
			change: func(p *bake.Plan) {
				p.Mounts = append([]chroot.Submount{{Type: "bind", Source: "/x", Target: "boot/"}}, p.Mounts...)
			},
		},
		{name: "the user has mounted it", fstab: "text", mounts: list{lacks(usr, "it is LVM"), home}, mounted: []string{"/usr"}, events: `, fstab "text", mount /home`},
		{
			name: "not on the disk", fstab: "text", mounts: list{lacks(boot, "no partition is it"), efi},
			events: `, fstab "text", mount /boot/efi`, warns: "going on without /boot, which the image's fstab mounts from LABEL=boot: no partition is it; what the build writes there will be hidden",
		},
		{name: "a kernel without vfat", fstab: "text", mounts: list{boot, of(efi, "unknown")}, events: `, fstab "text", mount /boot`, warns: "going on without /boot/efi, which the image's fstab mounts from LABEL=efi: unknown"},
		{name: "a kernel without its type", fstab: "text", mounts: list{of(boot, "unknown")}, fails: "/boot from LABEL=boot (mount it by post_mount_commands, or turn this off by mount_fstab = false): unknown"},
		{name: "a kernel without the type of /home", fstab: "text", mounts: list{of(home, "unknown")}, events: `, fstab "text"`, warns: "going on without /home"},
		{name: "/home is torn", fstab: "text", mounts: list{of(home, "torn"), boot}, events: `, fstab "text", mount /boot`, warns: "going on without /home, which the image's fstab mounts from LABEL=home: structure needs cleaning"},
		{name: "/boot is torn", fstab: "text", mounts: list{of(boot, "torn")}, fails: "needs cleaning"},
		{name: "/usr is not on the disk", fstab: "text", mounts: list{lacks(usr, "it is LVM")}, fails: "/usr from LABEL=usr (mount it by post_mount_commands, or turn this off by mount_fstab = false): it is LVM"},
		{name: "a kernel without the type of /usr", fstab: "text", mounts: list{of(usr, "unknown")}, fails: "/usr from LABEL=usr"},
		{name: "two for one target", fstab: "text", mounts: list{noted}, events: `, fstab "text", mount /home`, warns: "/home of the image's fstab is mounted from LABEL=home, but a later entry mounts LABEL=x there"},
		{name: "an endless one", fstab: strings.Repeat("x", 2<<20), mounts: list{boot}, warns: "going on without the image's fstab: it is longer"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			in(t, func(t *testing.T, w *fake) {
				w.fstab, w.mounts, w.mountedBelow = tt.fstab, tt.mounts, tt.mounted
				plan := w.plan()
				plan.MountFstab = true
				if tt.change != nil {
					tt.change(&plan)
				}
				result, err := w.build(t.Context(), plan)
				w.checkResult(result, err)
				if tt.fails != "" {
					if err == nil || !strings.Contains(err.Error(), tt.fails) {
						t.Errorf("error %v; want %q in it", err, tt.fails)
					}
					if slices.Contains(w.events, "provision") {
						t.Error("it was provisioned")
					}
					return
				}
				want := "shell ls /mnt/root" + tt.events + ", mount /proc"
				if got := strings.Join(w.events, ", "); err != nil || !strings.Contains(got, want) {
					t.Errorf("%v: %s; want %q in it", err, got, want)
				}
				warned := slices.IndexFunc(w.reports, func(s string) bool { return strings.HasPrefix(s, "warn: ") })
				if tt.warns == "" != (warned < 0) || warned >= 0 && !strings.HasPrefix(w.reports[warned], "warn: "+tt.warns) {
					t.Errorf("told %q; want a warning %q", w.reports, tt.warns)
				}
			})
		})
	}
}

func TestGrowRoot(t *testing.T) {
	for _, fails := range []string{"", "grow unmounted#1", "grow mounted#1"} {
		t.Run(fails, func(t *testing.T) {
			in(t, func(t *testing.T, w *fake) {
				if fails != "" {
					w.faults[fails] = fault{act: fails, err: errInjected}
				}
				plan := w.plan()
				plan.GrowRoot = true
				result, err := w.build(t.Context(), plan)
				w.checkResult(result, err)
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
