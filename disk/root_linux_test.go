package disk_test

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/packer-chroot/packer-plugin-chroot/disk"
	"github.com/packer-chroot/packer-plugin-chroot/testdir"
	"github.com/packer-chroot/packer-plugin-chroot/testroot"
)

// tree creates a directory with these files. The content of a file that begins with -> is the
// target of a link.
func tree(t *testing.T, files map[string]string) string {
	t.Helper()
	dir := testdir.New(t)
	for name, content := range files {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		var err error
		if to, ok := strings.CutPrefix(content, "->"); ok {
			err = os.Symlink(to, path)
		} else {
			err = os.WriteFile(path, []byte(content), 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// The kinds of partition in a layout.
var fills = map[string]func(t *testing.T, node string){
	"nothing": func(*testing.T, string) {},
	"root": func(t *testing.T, node string) {
		run(t, "", "mkfs.ext4", "-q", "-L", "cloudimg", "-d", tree(t, map[string]string{"etc/os-release": "->../usr/lib/os-release"}), node)
	},
	"root by fstab": func(t *testing.T, node string) {
		run(t, "", "mkfs.ext4", "-q", "-d", tree(t, map[string]string{"etc/fstab": "LABEL=x / ext4\n"}), node)
	},
	"data": func(t *testing.T, node string) {
		run(t, "", "mkfs.ext4", "-q", "-L", "data", "-d", tree(t, map[string]string{"file": "x"}), node)
	},
	"boot": func(t *testing.T, node string) { // files of grub and of a kernel's package
		run(t, "", "mkfs.ext4", "-q", "-L", "boot", "-d", tree(t, map[string]string{"boot": "->.", "grub/grub.cfg": "x", "efi/x": "", "vmlinuz": "x"}), node)
	},
	"usr": func(t *testing.T, node string) {
		run(t, "", "mkfs.ext4", "-q", "-d", tree(t, map[string]string{"bin/sh": "x", "lib/os-release": "x", "share/x": "x"}), node)
	},
	"bare root": func(t *testing.T, node string) { // no os-release and no fstab
		run(t, "", "mkfs.ext4", "-q", "-d", tree(t, map[string]string{"bin/sh": "x", "sbin/init": "x"}), node)
	},
	"trap": func(t *testing.T, node string) { // a link out of it makes no root
		run(t, "", "mkfs.ext4", "-q", "-d", tree(t, map[string]string{"etc": "->/etc", "file": "x"}), node)
	},
	"blank":  func(t *testing.T, node string) { run(t, "", "mkfs.ext4", "-q", node) },
	"lvm":    func(t *testing.T, node string) { imprint(t, node, 0x218, "LVM2 001") },
	"broken": func(t *testing.T, node string) { imprint(t, node, 0x438, "\x53\xef") },
	"jfs":    func(t *testing.T, node string) { imprint(t, node, 0x8000, "JFS1") },
	"swap":   func(t *testing.T, node string) { run(t, "", "mkswap", node) },
	"fat":    func(t *testing.T, node string) { fat(t, node) },
}

// fat writes the known fields of a FAT: this machine can neither create nor mount one.
func fat(t *testing.T, node string) {
	t.Helper()
	imprint(t, node, 0x27, "\x78\x56\x34\x12UEFI       FAT16   ")
}

// imprint writes a mark at an offset.
func imprint(t *testing.T, node string, at int64, mark string) {
	t.Helper()
	f, err := os.OpenFile(node, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.WriteAt([]byte(mark), at); err != nil {
		t.Fatal(err)
	}
}

// fill gives a device a table and fills the partitions, given as "2 root".
func fill(t *testing.T, device, script string, parts ...string) {
	t.Helper()
	run(t, "", "wipefs", "--quiet", "--all", "--force", device)
	if script != "" {
		table(t, device, script)
	}
	if err := disk.Settle(t.Context(), device); err != nil {
		t.Fatal(err)
	}
	for _, part := range parts {
		number, what, _ := strings.Cut(part, " ")
		n, err := strconv.Atoi(number)
		if err != nil {
			t.Fatal(err)
		}
		node := device
		if n > 0 {
			node = disk.PartitionPath(device, n)
			run(t, "", "wipefs", "--quiet", "--all", "--force", node)
		}
		fills[what](t, node)
	}
}

const (
	esp      = "type=C12A7328-F81F-11D2-BA4B-00A0C93EC93B"
	biosBoot = "type=21686148-6449-6E6F-744E-656564454649"
	rootType = "type=4F68BCE3-E8CD-4DB1-96E7-FBCAF984B709"
)

func TestRootOfLayouts(t *testing.T) {
	device := loopDevice(t, partitioned(t, 64, "label: gpt\n").Name())
	tests := []struct {
		name, script string
		parts        []string
		want         int
		fails        []string
	}{
		{"whole disk", "", []string{"0 root"}, 0, nil},
		{"first of an MBR", "label: dos\n size=20MiB\n", []string{"1 root"}, 1, nil},
		{"the first shows no sign of a root", "label: dos\n size=20MiB\n size=20MiB\n", []string{"1 data", "2 root"}, 2, nil},
		{"the first is /boot", "label: dos\n size=8MiB\n size=20MiB\n", []string{"1 boot", "2 bare root"}, 2, nil},
		{"the first is /boot, the root has its type", "label: gpt\n size=8MiB\n size=8MiB\n size=20MiB, " + rootType + "\n", []string{"1 boot", "2 data", "3 root"}, 3, nil},
		{"the first is /usr", "label: gpt\n size=8MiB\n size=20MiB\n", []string{"1 usr", "2 root by fstab"}, 2, nil},
		{"the first is a root, and so are others", "label: gpt\n size=8MiB\n size=20MiB\n size=20MiB, " + rootType + "\n", []string{"1 bare root", "2 root", "3 root"}, 1, nil},
		{"behind data, two roots", "label: dos\n size=8MiB\n size=20MiB\n size=16MiB\n", []string{"1 data", "2 root", "3 root"}, 0, []string{"more than one root", `partition 1 (type 83, ext4, label "data", 8 MiB): it has no /etc/os-release`}},
		{
			"behind /boot, LVM", "label: dos\n size=8MiB\n size=20MiB\n", []string{"1 boot", "2 lvm"}, 0,
			[]string{"no partition looks like a root", `partition 2 (type 83, LVM, 20 MiB): LVM is no file system for a root`},
		},
		{"behind /boot, an empty one", "label: dos\n size=8MiB\n size=20MiB\n", []string{"1 boot", "2 blank"}, 0, []string{"no partition looks like a root", "partition 2 (type 83, ext4, 20 MiB): it is empty"}},
		{"the first is empty, another is the root", "label: dos\n size=20MiB\n size=20MiB\n", []string{"1 blank", "2 bare root"}, 2, nil},
		{"the first is empty, another has the root's type", "label: gpt\n size=8MiB\n size=8MiB\n size=20MiB, " + rootType + "\n", []string{"1 blank", "2 data", "3 root"}, 3, nil},
		{"the first is empty, no other is a root", "label: dos\n size=20MiB\n size=20MiB\n", []string{"1 blank", "2 data"}, 1, nil},
		{"the first is empty, two are roots", "label: dos\n size=8MiB\n size=20MiB\n size=16MiB\n", []string{"1 blank", "2 root", "3 root"}, 0, []string{"more than one root", "it is empty"}},
		{"behind swap", "label: dos\n size=8MiB, type=82\n size=20MiB\n", []string{"1 swap", "2 root"}, 2, nil},
		{"behind swap without its type", "label: dos\n size=8MiB\n size=20MiB\n", []string{"1 swap", "2 root"}, 2, nil},
		{"behind nothing", "label: dos\n size=8MiB\n size=20MiB\n", []string{"1 nothing", "2 root"}, 2, nil},
		{"behind a FAT without its type", "label: dos\n size=8MiB, type=83\n size=20MiB\n", []string{"1 fat", "2 root"}, 2, nil},
		{"an MBR's ESP", "label: dos\n size=8MiB, type=ef\n size=20MiB\n", []string{"1 fat", "2 root"}, 2, nil},
		{"BIOS boot and root", "label: gpt\n size=1MiB, " + biosBoot + "\n size=20MiB\n", []string{"1 nothing", "2 root by fstab"}, 2, nil},
		{"BIOS boot by its type, whatever it holds", "label: gpt\n size=20MiB, " + biosBoot + "\n size=20MiB\n", []string{"1 root", "2 root"}, 2, nil},
		{"ESP, /boot, root", "label: gpt\n size=4MiB, " + esp + "\n size=16MiB\n size=20MiB\n", []string{"1 fat", "2 data", "3 root"}, 3, nil},
		{"the type says it, among others that look so", "label: gpt\n size=4MiB, " + esp + "\n size=16MiB\n size=20MiB, " + rootType + "\n", []string{"1 fat", "2 root", "3 root"}, 3, nil},
		{"marked and empty", "label: gpt\n size=4MiB, " + esp + "\n size=16MiB, " + rootType + "\n size=20MiB\n", []string{"1 fat", "2 blank", "3 data"}, 2, nil},
		{"two are marked, one looks so", "label: gpt\n size=4MiB, " + esp + "\n size=16MiB, " + rootType + "\n size=20MiB, " + rootType + "\n", []string{"1 fat", "2 data", "3 root"}, 3, nil},
		{"1, 14, 15", "label: gpt\n1: start=12MiB\n14: start=1MiB, size=3MiB, " + biosBoot + "\n15: start=4MiB, size=8MiB, " + esp + "\n", []string{"1 root", "15 fat"}, 1, nil},
		{"alone and to be filled", "label: gpt\n size=1MiB, " + biosBoot + "\n size=20MiB\n", []string{"1 nothing", "2 blank"}, 2, nil},
		{"logical", "label: dos\nsize=4MiB, type=82\nstart=6MiB, size=50MiB, type=5\nstart=8MiB, size=20MiB\n", []string{"1 swap", "5 root"}, 5, nil},
		{
			"two roots", "label: gpt\n size=4MiB, " + esp + "\n size=16MiB\n size=20MiB\n",
			[]string{"1 fat", "2 root", "3 root by fstab"}, 0,
			[]string{
				"more than one root", "mount_partition",
				`partition 1 (type EFI system, vfat, label "UEFI", 4 MiB): its type is EFI system`,
				`partition 2 (type 0fc63daf-8483-4772-8e79-3d69d8477de4, ext4, label "cloudimg", 16 MiB): it looks like a root`,
				`, ext4, 20 MiB): it looks like a root`,
			},
		},
		{
			"swap and data", "label: dos\n size=8MiB, type=82\n size=20MiB\n", []string{"1 swap", "2 data"}, 0,
			[]string{"no partition looks like a root", "partition 1 (type swap, swap, 8 MiB): its type is swap", `partition 2 (type 83, ext4, label "data", 20 MiB): it has no /etc/os-release and no /etc/fstab`},
		},
		{
			"links lead nowhere", "label: dos\n size=8MiB, type=82\n size=20MiB\n", []string{"1 swap", "2 trap"}, 0,
			[]string{"no partition looks like a root"},
		},
		{
			"two to be filled", "label: dos\n size=8MiB, type=82\n size=20MiB\n size=20MiB\n", []string{"1 swap", "2 blank", "3 blank"}, 0,
			[]string{"partition 3 (type 83, ext4, 20 MiB): it is empty"},
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			fill(t, device, tt.script, tt.parts...)
			ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
			defer cancel()
			before := checksums(t, device, tt.parts)
			got, err := disk.Root(ctx, device, disk.Choice{Options: []string{"noatime"}, Source: true})
			for _, says := range tt.fails {
				if err == nil || !strings.Contains(err.Error(), says) {
					t.Errorf("error %v; want %q in it", err, says)
				}
			}
			if diff := cmp.Diff(before, checksums(t, device, tt.parts)); diff != "" {
				t.Errorf("looking has changed the disk: %s", diff)
			}
			if len(tt.fails) > 0 {
				return
			}
			node := device
			if tt.want > 0 {
				node = disk.PartitionPath(device, tt.want)
			}
			want := disk.RootFS{Device: node, Partition: tt.want, Type: "ext4", Options: []string{"noatime"}}
			if diff := cmp.Diff(want, got); err != nil || diff != "" {
				t.Errorf("%v %s", err, diff)
			}
		})
	}
}

// TestUncertainRoot has partitions that are used as the root although they have no sign of one.
func TestUncertainRoot(t *testing.T) {
	device := loopDevice(t, partitioned(t, 64, "label: gpt\n").Name())
	const two = "label: dos\n size=8MiB\n size=20MiB\n"
	source := disk.Choice{Source: true}
	tests := []struct {
		name, script string
		parts        []string
		choice       disk.Choice
		want         int
		warns        []string
	}{
		{"the build has filled it", two, []string{"1 data", "2 root"}, disk.Choice{}, 1, nil},
		{"named", two, []string{"1 boot", "2 root"}, disk.Choice{Source: true, Partition: "1"}, 1, []string{`mount_partition "1"`, device + "p1", "ext4 has no sign of a root (no /etc, /usr, /bin or /sbin)"}},
		{"named from scratch", two, []string{"1 data", "2 root"}, disk.Choice{Partition: "1"}, 1, []string{`mount_partition "1"`}},
		{"named and right", two, []string{"1 boot", "2 root"}, disk.Choice{Source: true, Partition: "2"}, 2, nil},
		{"named and empty", two, []string{"1 root", "2 blank"}, disk.Choice{Source: true, Partition: "2"}, 2, nil},
		{"a path", two, []string{"1 boot", "2 root"}, disk.Choice{Source: true, Path: device + "p"}, 1, []string{"nvme_device_path", device + "p1"}},
		{"whole disk", "", []string{"0 data"}, source, 0, []string{"no partition table", device, "no sign of a root"}},
		{"whole disk, empty", "", []string{"0 blank"}, source, 0, nil},
		{"whole disk, named", "", []string{"0 data"}, disk.Choice{Partition: "0"}, 0, []string{`mount_partition "0"`}},
		{"alone", "label: gpt\n size=20MiB\n size=4MiB, " + esp + "\n", []string{"1 data", "2 fat"}, source, 1, []string{device + "p1", "no other partition can be", "no sign of a root"}},
		{"not to be looked into", two, []string{"1 broken", "2 root"}, source, 1, []string{device + "p1", "only because it is the first", "cannot look into the ext4", "mount_partition"}},
		{"not to be looked into, and named", two, []string{"1 broken", "2 root"}, disk.Choice{Source: true, Partition: "1"}, 1, nil},
		{"of a type that this kernel lacks", two, []string{"1 jfs", "2 root"}, source, 1, []string{device + "p1", "cannot look into the jfs", "mount_partition"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			fill(t, device, tt.script, tt.parts...)
			got, err := disk.Root(t.Context(), device, tt.choice)
			if err != nil || got.Partition != tt.want || (got.Warning == "") != (tt.warns == nil) {
				t.Errorf("%+v, %v; want partition %d and a warning of %q", got, err, tt.want, tt.warns)
			}
			for _, says := range tt.warns {
				if !strings.Contains(got.Warning, says) {
					t.Errorf("warning %q; want %q in it", got.Warning, says)
				}
			}
		})
	}
}

// TestRootAtAPath covers nvme_device_path.
func TestRootAtAPath(t *testing.T) {
	device := loopDevice(t, partitioned(t, 64, "label: gpt\n").Name())
	fill(t, device, "label: gpt\n size=16MiB\n size=20MiB\n", "1 data", "2 root")
	other := loopDevice(t, partitioned(t, 64, "label: gpt\n").Name())
	tests := []struct{ path, partition, want, fails string }{
		{device + "p", "", device + "p1", ""},
		{device + "p", "2", device + "p2", ""},
		{device, "0", device, ""},
		{device + "p2", "0", device + "p2", ""},
		{device + "p1", "", "", device + "p11: no such file"},
		{device + "p", "3", "", device + "p3: no such file"},
		{other, "0", "", other + " is not on " + device},
	}
	for _, tt := range tests {
		t.Run(tt.path+" "+tt.partition, func(t *testing.T) {
			got, err := disk.Root(t.Context(), device, disk.Choice{Path: tt.path, Partition: tt.partition})
			if got.Device != tt.want || (err != nil) != (tt.fails != "") || (err != nil && !strings.Contains(err.Error(), tt.fails)) {
				t.Errorf("got %+v, %v; want %q, %q", got, err, tt.want, tt.fails)
			}
		})
	}
}

func checksums(t *testing.T, device string, parts []string) []string {
	t.Helper()
	sums := make([]string, 0, len(parts))
	for _, part := range parts {
		n, _ := strconv.Atoi(strings.Fields(part)[0])
		node := device
		if n > 0 {
			node = disk.PartitionPath(device, n)
		}
		sums = append(sums, run(t, "", "sha256sum", node))
	}
	return sums
}

// btrfs creates a file system of 128 MiB with subvolumes and their files.
func btrfs(t *testing.T, subvolumes map[string]map[string]string, commands ...string) string {
	t.Helper()
	testroot.Need(t, "real block devices")
	file := filepath.Join(testdir.New(t), "btrfs")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(file, 128*mib); err != nil {
		t.Fatal(err)
	}
	run(t, "", "mkfs.btrfs", "-q", file)
	device := loopDevice(t, file)
	top := testdir.New(t)
	run(t, "", "mount", device, top)
	defer run(t, "", "umount", top)
	for name, files := range subvolumes {
		if name != "" {
			run(t, "", "btrfs", "subvolume", "create", filepath.Join(top, name))
		}
		run(t, "", "cp", "-a", tree(t, files)+"/.", filepath.Join(top, name))
	}
	for _, command := range commands {
		cmd := exec.Command("sh", "-c", command)
		cmd.Dir = top
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%s: %v\n%s", command, err, out)
		}
	}
	return device
}

func TestRootOfBtrfs(t *testing.T) {
	root := map[string]string{"etc/os-release": "ID=x\n"}
	fstab := map[string]string{"etc/os-release": "ID=x\n", "etc/fstab": "UUID=1 / btrfs defaults,subvol=/@ 0 0\n"}
	tests := []struct {
		name       string
		subvolumes map[string]map[string]string
		command    string
		given      []string
		want       []string
		fails      string
	}{
		{"the top", map[string]map[string]string{"": root}, "", nil, nil, ""},
		{"empty", nil, "", nil, nil, ""},
		{"a subvolume", map[string]map[string]string{"@": root, "@home": {"user/x": ""}}, "", []string{"noatime"}, []string{"subvol=@", "noatime"}, ""},
		{"the default subvolume", map[string]map[string]string{"a": root, "b": root}, "btrfs subvolume set-default b", nil, nil, ""},
		{"a directory is no subvolume", map[string]map[string]string{"": {"@/etc/os-release": "x"}, "root": root}, "", nil, []string{"subvol=root"}, ""},
		{"the one that its fstab names", map[string]map[string]string{"@": fstab, "@old": fstab}, "", nil, []string{"subvol=@"}, ""},
		{"two", map[string]map[string]string{"a": root, "b": root}, "", nil, nil, "a, b"},
		{"no sign, and the user knows a nested one", map[string]map[string]string{"a": {"x": ""}}, "mkdir a/b && btrfs subvolume create a/b/c && mkdir a/b/c/usr", []string{"subvol=a/b/c"}, []string{"subvol=a/b/c"}, ""},
		{"two, and the user knows", map[string]map[string]string{"a": root, "b": root}, "", []string{"ro,subvol=b"}, []string{"ro,subvol=b"}, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var commands []string
			if tt.command != "" {
				commands = append(commands, tt.command)
			}
			device := btrfs(t, tt.subvolumes, commands...)
			got, err := disk.Root(t.Context(), device, disk.Choice{Options: tt.given, Source: true})
			if err == nil && got.Warning != "" {
				t.Errorf("warning %q", got.Warning)
			}
			if tt.fails != "" {
				if err == nil || !strings.Contains(err.Error(), tt.fails) {
					t.Errorf("%+v, %v; want an error with %q", got, err, tt.fails)
				}
				return
			}
			if err != nil || got.Type != "btrfs" || !slices.Equal(got.Options, tt.want) {
				t.Errorf("%+v, %v; want options %v", got, err, tt.want)
			}
		})
	}
}

func FuzzParseFstab(f *testing.F) {
	f.Add("UUID=1 / btrfs defaults,subvol=@ 0 0\nLABEL=my\\040disk /boot ext4\n# a b c\n")
	f.Fuzz(func(t *testing.T, text string) {
		for _, e := range disk.ParseFstab(text) {
			if e.Spec == "" || e.Target == "" || e.Type == "" {
				t.Errorf("an entry without all its parts: %+v", e)
			}
		}
	})
}
