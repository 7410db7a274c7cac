//go:generate packer-sdc struct-markdown
package builder

import (
	"fmt"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/hashicorp/packer-plugin-sdk/template/config"
	"github.com/hashicorp/packer-plugin-sdk/template/interpolate"

	"github.com/packer-chroot/packer-plugin-chroot/chroot"
)

// Config holds the options that do not depend on the cloud. The comments of its fields are
// the user's documentation.
type Config struct {
	Tagging   `mapstructure:",squash"`
	Replacing `mapstructure:",squash"`
	Sharing   `mapstructure:",squash"`

	// The file systems to mount below the root of the image while it is provisioned, as a
	// list of mounts. Each mount is a list of three strings: type, source and target. A
	// missing target directory is created. After provisioning it is removed if it is empty,
	// unless it is a standard top-level directory such as `/proc`. The source of a `bind`
	// may be relative to the directory that Packer was started in. See [Chroot
	// Mounts](#chroot-mounts) for the default and for an example.
	ChrootMounts [][]string `mapstructure:"chroot_mounts"`
	// A template for running commands, in which `{{.Command}}` stands for the command. It
	// applies to `pre_mount_commands`, `post_mount_commands` and `pre_unmount_commands`,
	// and to the process of the build that mounts the image and runs provisioners' commands
	// in it. With `sudo {{.Command}}` Packer need not run as root: sudo must allow its user
	// to run the plugin, without a password in unattended builds. The commands of
	// provisioners are not passed through a shell of the host. Defaults to `{{.Command}}`.
	// A wrapper without `{{.Command}}` is refused.
	CommandWrapper string `mapstructure:"command_wrapper"`
	// The names of environment variables of Packer that are passed to commands in the
	// chroot, such as `["DEBIAN_FRONTEND"]`. Some are always passed: proxies (`http_proxy`,
	// `https_proxy`, `ftp_proxy`, `all_proxy` and `no_proxy`, in lower or upper case),
	// `TERM`, `TZ`, `LANG`, `LANGUAGE`, `LC_*`, `PACKER_BUILD_*`, `PACKER_HTTP_*`, and
	// variables that `command_wrapper` sets by name. `PATH`, `HOME`, `USER`, `LOGNAME` and
	// `SHELL` have root's own values, unless they are listed here. By default the list is
	// empty. An entry that is not the name of a variable is refused.
	PassEnvironment []string `mapstructure:"pass_environment"`
	// Files of the host to copy to the same path in the image while it is provisioned. A
	// file of the image at that path is restored afterwards. Defaults to
	// `["/etc/resolv.conf"]`, so that host names resolve in the chroot, even after a
	// package such as systemd-resolved has replaced that file by a symbolic link. An empty
	// list copies nothing. A relative path is refused.
	CopyFiles []string `mapstructure:"copy_files"`
	// The device name for attaching the root volume, such as `/dev/sdf`. By default the
	// build chooses a free name. The kernel may use another name for the device; the build
	// finds it in either case. A name that a device or a link of the host already has is
	// refused.
	DevicePath string `mapstructure:"device_path"`
	// The directory of the host where the root of the image is mounted. It is created if it
	// does not exist. If it contains files, they are hidden until the build ends, and the
	// build warns. `{{.Device}}` stands for the name of the device, such as `xvdf`, so that
	// parallel builds use different directories. Defaults to
	// `/mnt/packer-amazon-chroot-volumes/{{.Device}}`. A mount point is refused, and so is
	// a directory that the host itself needs, such as `/var`.
	MountPath string `mapstructure:"mount_path"`
	// The number of the root partition, as a string or a number; `"0"` means the whole
	// device. The build uses this partition, and warns if it does not look like a root. By
	// default the build uses the whole device if it has no partition table, and otherwise
	// the first partition. The first partition is not used if its type is EFI system, BIOS
	// boot, PReP boot, boot loader, Microsoft reserved, swap or extended, if it has no
	// suitable file system, or if, in a source image, it contains files but none of `/etc`,
	// `/usr`, `/bin` and `/sbin`, such as a separate `/boot`. The build then uses the partition whose GPT type is that of a root, or
	// otherwise the one that contains `/etc/os-release` or `/etc/fstab`. If none or several
	// qualify, the build fails and lists them. On btrfs the build also finds the subvolume
	// that contains the root, unless `mount_options` sets one.
	MountPartition string `mapstructure:"mount_partition"`
	// Grow the root partition to the end of the device, and its file system to the size of
	// the partition, before `post_mount_commands` run. Use it with `root_volume_size` for
	// an image that is larger than its source. The partition must be the last on the
	// device, and the file system must be ext4, xfs or btrfs. ext4 requires `e2fsck` and
	// `resize2fs` on the host. Defaults to `false`.
	GrowRootFilesystem bool `mapstructure:"grow_root_filesystem"`
	// Mount the partitions and btrfs subvolumes of the root's device that the image's
	// `/etc/fstab` lists by label, UUID or path. They are mounted after
	// `post_mount_commands`. An entry is ignored if its target is already mounted or is in
	// `chroot_mounts`. The options of the fstab are used if they are safe for the host, but
	// never `noexec`. Defaults to `true`. Entries on another device, in LVM or LUKS, on the
	// network, bind mounts, and entries that cannot be mounted for another reason are
	// skipped with a warning: files that provisioners write there are hidden once the image
	// has booted. The build fails if it cannot mount `/usr`, or a `/boot` or `/boot/efi` on
	// the device. If the kernel does not support the file system of `/boot/efi`, or of a
	// `/boot` with `nofail`, the build only warns. `noauto`, swap, and file systems without
	// a device are ignored.
	MountFstab config.Trilean `mapstructure:"mount_fstab"`
	// The former name of `mount_fstab`. Defaults to the value of `mount_fstab`. It is an
	// error to set both to different values.
	MountBoot config.Trilean `mapstructure:"mount_boot"`
	// Options for mounting the root, in the form of `mount -o`, such as `nouuid` or
	// `subvol=root`. By default there are none. An empty entry is refused.
	MountOptions []string `mapstructure:"mount_options"`
	// The device path to mount the root from, such as `/dev/nvme1n1p`. The build appends
	// `mount_partition`, or 1, to it, so the path of an NVMe disk must end with `p`. With
	// `"mount_partition": "0"` it is used unchanged. This is rarely needed, because by
	// default the build finds the device. A path that does not begin with `/dev/` is
	// refused, and the build fails if the device is not the build's volume.
	NVMEDevicePath string `mapstructure:"nvme_device_path"`
	// Shell commands to run on the host, in order, after the volume is attached and before
	// it is mounted. `{{.Device}}` stands for the device, such as `/dev/xvdf`. By default
	// there are none. Required with `from_scratch`, to partition the device and to create
	// its file system. The build fails if a command fails.
	PreMountCommands []string `mapstructure:"pre_mount_commands"`
	// Shell commands to run on the host, in order, after the root is mounted and before
	// anything is mounted below it or copied into it. `{{.Device}}` stands for the device
	// and `{{.MountPath}}` for the directory where the root is mounted. By default there
	// are none. The build fails if a command fails.
	PostMountCommands []string `mapstructure:"post_mount_commands"`
	// Shell commands to run on the host, in order, after provisioning, while the root and
	// the file systems below it are still mounted. `{{.Device}}` stands for the device and
	// `{{.MountPath}}` for the directory where the root is mounted. By default there are
	// none. The build fails if a command fails. The commands must not leave processes
	// running in the root.
	PreUnmountCommands []string `mapstructure:"pre_unmount_commands"`
	// Prevent packages from starting services in the chroot. While provisioners run,
	// `/usr/sbin/policy-rc.d` prevents Debian packages from starting services, and commands
	// have `SYSTEMD_OFFLINE=1` in their environment. Afterwards this file is removed, and a
	// file that the image had there is restored. A file that a provisioner has put there is
	// kept. Defaults to `false`.
	BlockServices bool `mapstructure:"block_services"`
	// Remove files that provisioners uploaded below `/tmp` and `/var/tmp` and left there
	// unchanged, such as the script of a shell provisioner that could not remove it. They
	// are removed after provisioning. Files that existed before, and files that
	// provisioners created in another way or moved elsewhere, remain. Defaults to `false`.
	CleanUploads bool `mapstructure:"clean_uploads"`
	// Start from an empty volume instead of a source image. Requires `pre_mount_commands`,
	// `root_volume_size`, `root_device_name` and the block device mappings, and in
	// `amazon-chroot` also `ami_virtualization_type`. Defaults to `false`.
	FromScratch bool `mapstructure:"from_scratch"`
	// The size of the root volume in GiB, during the build and in the image. Defaults to
	// the size of the source image's root volume. Required with `from_scratch`. A smaller
	// size than the source image's is refused.
	RootVolumeSize int64 `mapstructure:"root_volume_size"`
	// The type of the root volume, during the build and in the image. Defaults to the type
	// of the source image's root volume, or to `gp2` with `from_scratch`. `io1` requires
	// `root_volume_iops`, or a source image whose root volume is `io1` too. An unknown type
	// is refused.
	RootVolumeType string `mapstructure:"root_volume_type"`
	// The provisioned IOPS (I/O operations per second) of the root volume, during the build
	// and in the image. Only for volume types with provisioned IOPS, such as `io1`.
	// Defaults to that of the source image's root volume.
	RootVolumeIOPS int64 `mapstructure:"root_volume_iops"`
	// The name of the root device in the image, such as `xvda`. Defaults to that of the
	// source image. Required with `from_scratch`; it must then be the `device_name` of one
	// of the block device mappings.
	RootDeviceName string `mapstructure:"root_device_name"`

	// The path of a page (HTML) that reports the build, such as `build.html`. The page shows
	// where the time went, every call, the resources that were created and removed, and the
	// packages that were added, removed or changed. It needs no network and no script. The
	// same is written as JSON and as trace events beside it, as `build.json` and
	// `build.trace.json`. The files are written when the build ends, also if it fails, and
	// replace those of an earlier build. They contain none of the build's secrets. A relative
	// path is relative to the directory that Packer was started in. By default no report is
	// written. A path that does not end with `.html` is refused,
	// and so is one in a directory that does not exist or cannot be written to.
	Report string `mapstructure:"report"`

	ictx interpolate.Context
	// waitLimit is the value of PACKER_CHROOT_PATIENCE, or 0.
	waitLimit time.Duration
}

// DefaultMountPath is the mount_path of both builders: the page of osc-chroot
// names the same directory.
const DefaultMountPath = "/mnt/packer-amazon-chroot-volumes/{{.Device}}"

const (
	defaultCommandWrapper  = "{{.Command}}"
	defaultScratchRootType = "gp2"
)

// lateOptions are rendered when the values of their fields are known.
var lateOptions = []string{"command_wrapper", "mount_path", "pre_mount_commands", "post_mount_commands", "pre_unmount_commands"}

// Prepare fills in the defaults and answers everything that is wrong with the
// common options.
func (c *Config) Prepare(kind Kind) []error {
	c.setDefaults()
	var errs []error
	errs = append(errs, c.merge()...)
	errs = append(errs, c.checkTemplates()...)
	errs = append(errs, c.checkMounts()...)
	errs = append(errs, c.checkFiles()...)
	errs = append(errs, c.checkFstab()...)
	errs = append(errs, c.checkEnvironment()...)
	errs = append(errs, c.checkVolume(kind)...)
	errs = append(errs, c.checkSharing()...)
	errs = append(errs, c.checkReportName()...)
	var err error
	if c.waitLimit, err = readWaitLimit(); err != nil {
		errs = append(errs, err)
	}
	if c.FromScratch {
		errs = append(errs, c.checkScratch()...)
	}
	return errs
}

func (c *Config) setDefaults() {
	if c.CopyFiles == nil {
		c.CopyFiles = []string{"/etc/resolv.conf"}
	}
	if c.CommandWrapper == "" {
		c.CommandWrapper = defaultCommandWrapper
	}
	if c.MountPath == "" {
		c.MountPath = DefaultMountPath
	}
	if c.FromScratch && c.RootVolumeType == "" {
		c.RootVolumeType = defaultScratchRootType
	}
}

func (c *Config) checkTemplates() []error {
	device, mountPath := sample{fieldDevice, "/dev/xvdf"}, sample{fieldMountPath, "/mnt/xvdf"}
	errs := []error{
		c.checkWrapper(),
		tryTemplate("mount_path", c.MountPath, c.ictx, sample{fieldDevice, "xvdf"}),
	}
	for i, command := range c.PreMountCommands {
		errs = append(errs, tryTemplate(entry("pre_mount_commands", i), command, c.ictx, device))
	}
	for i, command := range c.PostMountCommands {
		errs = append(errs, tryTemplate(entry("post_mount_commands", i), command, c.ictx, device, mountPath))
	}
	for i, command := range c.PreUnmountCommands {
		errs = append(errs, tryTemplate(entry("pre_unmount_commands", i), command, c.ictx, device, mountPath))
	}
	return slices.DeleteFunc(errs, func(err error) bool { return err == nil })
}

// checkWrapper returns an error for a wrapper that would not run its command.
func (c *Config) checkWrapper() error {
	if err := tryTemplate("command_wrapper", c.CommandWrapper, c.ictx, sample{fieldCommand, "true"}); err != nil {
		return err
	}
	if !strings.Contains(c.CommandWrapper, "{{") || !usesField("command_wrapper", c.CommandWrapper, &c.ictx, fieldCommand) {
		return fmt.Errorf("command_wrapper is %q, but must have {{.Command}}, which stands for the command that it wraps, such as %q",
			c.CommandWrapper, strings.TrimSpace(c.CommandWrapper+" {{.Command}}"))
	}
	return nil
}

func entry(option string, i int) string { return fmt.Sprintf("%s[%d]", option, i) }

func (c *Config) checkMounts() []error {
	var errs []error
	for i, mount := range c.ChrootMounts {
		switch {
		case len(mount) != 3:
			errs = append(errs, fmt.Errorf("%s has %d strings, but a mount is three (type, source, target): %q",
				entry("chroot_mounts", i), len(mount), mount))
		case mount[0] == "" || mount[2] == "":
			errs = append(errs, fmt.Errorf("%s needs a type and a target: %q", entry("chroot_mounts", i), mount))
		}
	}
	return errs
}

// mounts are chroot_mounts as the chroot takes them.
func (c *Config) mounts() []chroot.Submount {
	if c.ChrootMounts == nil {
		return chroot.DefaultMounts()
	}
	mounts := make([]chroot.Submount, 0, len(c.ChrootMounts))
	for _, m := range c.ChrootMounts {
		mounts = append(mounts, chroot.Submount{Type: m[0], Source: bindSource(m[0], m[1]), Target: m[2], Temporary: true})
	}
	return mounts
}

var variableName = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*$`)

func (c *Config) checkEnvironment() []error {
	var errs []error
	for i, name := range c.PassEnvironment {
		if !variableName.MatchString(name) {
			errs = append(errs, fmt.Errorf("%s is %q, but must be the name of an environment variable, such as DEBIAN_FRONTEND",
				entry("pass_environment", i), name))
		}
	}
	return errs
}

// bindSource returns the source of a mount. That of a bind mount is relative to the
// directory that Packer was started in, as the paths in pre_mount_commands are; the
// process that mounts works in another one.
func bindSource(kind, source string) string {
	if kind != "bind" || source == "" {
		return source
	}
	if abs, err := filepath.Abs(source); err == nil {
		return abs
	}
	return source // the directory that Packer was started in is gone: mounting says so
}

func (c *Config) checkFiles() []error {
	var errs []error
	for i, file := range c.CopyFiles {
		if !strings.HasPrefix(file, "/") {
			errs = append(errs, fmt.Errorf("%s is %q, but must be an absolute path", entry("copy_files", i), file))
		}
	}
	for i, option := range c.MountOptions {
		if option == "" {
			errs = append(errs, fmt.Errorf("%s is empty", entry("mount_options", i)))
		}
	}
	if !strings.HasPrefix(c.MountPath, "/") && !strings.HasPrefix(c.MountPath, "{{") {
		errs = append(errs, fmt.Errorf("mount_path is %q, but must be an absolute path", c.MountPath))
	}
	return errs
}

// checkFstab has both names of the one option say the same.
func (c *Config) checkFstab() []error {
	fstab, boot := c.MountFstab.ToBoolPointer(), c.MountBoot.ToBoolPointer()
	if fstab == nil || boot == nil || *fstab == *boot {
		return nil
	}
	return []error{fmt.Errorf("mount_fstab is %v and mount_boot is %v, but mount_boot is the old name of mount_fstab: give only mount_fstab", *fstab, *boot)}
}

func (c *Config) checkVolume(kind Kind) []error {
	var errs []error
	if c.DevicePath != "" && !kind.Limits.Device.MatchString(c.DevicePath) {
		errs = append(errs, fmt.Errorf("device_path is %q, but the cloud attaches volumes as %s, such as /dev/sdf "+
			"(the kernel's own name for the device is found out)", c.DevicePath, kind.Limits.DeviceSet))
	}
	if c.NVMEDevicePath != "" && !strings.HasPrefix(c.NVMEDevicePath, "/dev/") {
		errs = append(errs, fmt.Errorf("nvme_device_path is %q, but must be a path such as /dev/nvme1n1p", c.NVMEDevicePath))
	}
	if n, err := strconv.ParseUint(c.MountPartition, 10, 8); c.MountPartition != "" && (err != nil || strconv.FormatUint(n, 10) != c.MountPartition) {
		errs = append(errs, fmt.Errorf("mount_partition is %q, but must be a partition number, or 0 for the whole device", c.MountPartition))
	}
	if c.RootVolumeSize < 0 {
		errs = append(errs, fmt.Errorf("root_volume_size is %d, but must be a number of GiB", c.RootVolumeSize))
	}
	if c.RootVolumeIOPS < 0 {
		errs = append(errs, fmt.Errorf("root_volume_iops is %d, but must be a number of operations per second", c.RootVolumeIOPS))
	}
	if err := kind.VolumeTypes.Check("root_volume_type", c.RootVolumeType); err != nil {
		errs = append(errs, err)
	}
	return errs
}

func (c *Config) checkScratch() []error {
	var errs []error
	require := func(option string, given bool) {
		if !given {
			errs = append(errs, fmt.Errorf("%s is required with from_scratch", option))
		}
	}
	require("pre_mount_commands", len(c.PreMountCommands) > 0)
	require("root_volume_size", c.RootVolumeSize > 0)
	require("root_device_name", c.RootDeviceName != "")
	if strings.HasPrefix(c.RootVolumeType, "io") && c.RootVolumeIOPS == 0 {
		errs = append(errs, fmt.Errorf("root_volume_iops is required with root_volume_type %s, for from_scratch has no source image to take it from",
			c.RootVolumeType))
	}
	return errs
}
