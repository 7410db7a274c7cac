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

// Config is the options that do not depend on the cloud. The comments of its
// fields are the user's documentation.
type Config struct {
	Tagging   `mapstructure:",squash"`
	Replacing `mapstructure:",squash"`
	Sharing   `mapstructure:",squash"`

	// File systems to mount below the root of the image while it is provisioned,
	// as a list of three strings each: type, source and target. A missing target is
	// created; afterwards it is removed from the image again if it is empty, except for
	// the standard directories at the top, such as `/proc`. The source of a `bind` may be
	// relative to the directory that Packer was started in. See
	// [Chroot Mounts](#chroot-mounts) for the default and for an example.
	ChrootMounts [][]string `mapstructure:"chroot_mounts"`
	// How to run commands: `pre_mount_commands`, `post_mount_commands` and
	// `pre_unmount_commands` on the host, each in a shell, and the build's one
	// process that mounts the image and runs the commands of provisioners in it.
	// `{{.Command}}` stands for the command. With `sudo {{.Command}}`, Packer need not run as root: sudo must let
	// its user run the plugin, and does so without a password in unattended builds.
	// No shell of the host sees a provisioner's command. Defaults to `{{.Command}}`.
	CommandWrapper string `mapstructure:"command_wrapper"`
	// Names of environment variables that Packer was started with and that commands in
	// the chroot get too, such as `["DEBIAN_FRONTEND"]`. Without it they get proxies
	// (`http_proxy`, `https_proxy`, `ftp_proxy`, `all_proxy` and `no_proxy`, in lower or
	// upper case), `TERM`, `TZ`, `LANG`, `LANGUAGE`, `LC_*`, `PACKER_BUILD_*`,
	// `PACKER_HTTP_*`, and variables that `command_wrapper` sets by name. A variable
	// that is not set, is not set in the chroot either. `PATH`, `HOME`, `USER`,
	// `LOGNAME` and `SHELL` are root's own, unless they are listed here. Anything but
	// the name of a variable is refused.
	PassEnvironment []string `mapstructure:"pass_environment"`
	// Files of the host that are copied to the same path of the image before it is
	// provisioned; each takes the place of what the image has there until
	// provisioning is over. Defaults to `["/etc/resolv.conf"]`, so that names
	// resolve in the chroot, also after a package, such as systemd-resolved, has
	// replaced that file by a link. An empty list copies nothing.
	CopyFiles []string `mapstructure:"copy_files"`
	// The device name to attach the root volume under, such as `/dev/sdf`. By
	// default a free one is found. The kernel may know the device by another name:
	// that is found out in either case. A name that a device or a link of the host has
	// already is refused.
	DevicePath string `mapstructure:"device_path"`
	// The directory of the host where the root of the image is mounted. It is created if
	// it is missing. If it holds files, they are hidden until the build ends, with a
	// warning; a directory that something is mounted on, or that the host itself needs,
	// such as `/var`, is refused.
	// `{{.Device}}` stands for the name of the device, such as `xvdf`, so that
	// builds side by side do not meet. Defaults to
	// `/mnt/packer-amazon-chroot-volumes/{{.Device}}`.
	MountPath string `mapstructure:"mount_path"`
	// The number of the partition that holds `/`, as a string or a number. `"0"`
	// means the whole device. By default it is the whole device if that has no
	// partition table, and else the first partition, unless that is plainly no root:
	// an EFI system, BIOS boot or swap partition, one without a file system for a
	// root, or, of a source image, one that holds files but none of `/etc`, `/usr`,
	// `/bin` and `/sbin`, such as a `/boot` that comes first. Then it is the partition
	// whose GPT type says so, or else the one that has an `/etc/os-release` or
	// `/etc/fstab`; if more than one has, or none, the build fails and lists them. On
	// btrfs the subvolume that holds the root is found, too, unless `mount_options`
	// names one. A partition that is named here is used whatever it holds, with a
	// warning if that does not look like a root.
	MountPartition string `mapstructure:"mount_partition"`
	// Make the root partition reach to the end of the device, and its file system
	// fill it, before anything else is done with it: for an image that is larger than
	// its source, by `root_volume_size`. The partition must be the last on the device,
	// and the file system ext4, xfs or btrfs. ext4 takes `e2fsck` and `resize2fs`
	// on the host. Defaults to `false`.
	GrowRootFilesystem bool `mapstructure:"grow_root_filesystem"`
	// Mount below the root what `/etc/fstab` of the image mounts from the same device:
	// partitions, by label, UUID or path, and btrfs subvolumes. They are mounted after
	// `post_mount_commands`, unless those or `chroot_mounts` mount there, and with
	// those options of the fstab that are safe for the host, but without `noexec`.
	// What is on another device, in LVM or LUKS, on the network, a bind mount, or
	// cannot be mounted for any other reason, is left out with a warning: files written
	// there are hidden once the image has booted. Without its `/usr`, or a `/boot` of
	// the device that the kernel cannot mount, the build fails; an entry with `nofail`
	// and `/boot/efi` may be of a type that the kernel does not have. `noauto`, swap,
	// and file systems of no device are ignored. Defaults to `true`.
	MountFstab config.Trilean `mapstructure:"mount_fstab"`
	// The old name of `mount_fstab`, from when only `/boot` and `/boot/efi` were
	// mounted: `false` mounts nothing of the fstab. It is an error if both are given
	// and differ.
	MountBoot config.Trilean `mapstructure:"mount_boot"`
	// Options for mounting the root, each as `mount -o` takes it, such as
	// `nouuid` or `subvol=root`. By default there are none.
	MountOptions []string `mapstructure:"mount_options"`
	// What takes the place of the device when the root is mounted, such as
	// `/dev/nvme1n1p`: `mount_partition`, or 1, is appended to it, so it must end with
	// the `p`; with `"mount_partition": "0"` it is mounted as it is. It is not needed:
	// the device is found by default. A build fails when it is not the volume's.
	NVMEDevicePath string `mapstructure:"nvme_device_path"`
	// Shell commands to run on the host, in order, when the volume is attached and
	// nothing is mounted yet. `{{.Device}}` stands for the device, such as
	// `/dev/xvdf`. Required with `from_scratch`: they partition the device and make
	// its file system.
	PreMountCommands []string `mapstructure:"pre_mount_commands"`
	// Shell commands to run on the host, in order, when the root is mounted and
	// before anything is mounted below it or copied to it. `{{.Device}}` stands for
	// the device and `{{.MountPath}}` for the directory where the root is mounted.
	PostMountCommands []string `mapstructure:"post_mount_commands"`
	// Shell commands to run on the host, in order, when provisioning is over and the
	// root is still mounted, with everything below it. `{{.Device}}` stands for the
	// device and `{{.MountPath}}` for the directory where the root is mounted. A
	// command that fails, fails the build. They must not leave anything running in
	// the root.
	PreUnmountCommands []string `mapstructure:"pre_unmount_commands"`
	// Keep what provisioners do from starting services in the chroot: while they run
	// there is a `/usr/sbin/policy-rc.d` that forbids it to Debian's packages, and
	// commands have `SYSTEMD_OFFLINE=1` in their environment. Afterwards the image's
	// own file is back, or none; a file that a provisioner has put there instead is
	// kept. Defaults to `false`.
	BlockServices bool `mapstructure:"block_services"`
	// Remove, when provisioning is over, what provisioners uploaded below `/tmp` and
	// `/var/tmp` and left there unchanged, such as the script of a shell provisioner
	// that could not remove it. What was there before, and what provisioners made
	// otherwise or moved elsewhere, stays. Defaults to `false`.
	CleanUploads bool `mapstructure:"clean_uploads"`
	// Start from an empty volume instead of a source image. Requires
	// `pre_mount_commands`, `root_volume_size`, `root_device_name`, the
	// virtualization type and the block device mappings. Defaults to `false`.
	FromScratch bool `mapstructure:"from_scratch"`
	// The size of the root volume in GiB, for the build and in the image. Defaults
	// to the size of the source image's root volume, and may not be smaller.
	// Required with `from_scratch`.
	RootVolumeSize int64 `mapstructure:"root_volume_size"`
	// The type of the root volume, for the build and in the image. Defaults to the
	// type of the source image's root volume, and to `gp2` with `from_scratch`.
	// `io1` needs `root_volume_iops`, or a source image whose root volume is `io1` too.
	RootVolumeType string `mapstructure:"root_volume_type"`
	// The number of I/O operations per second that the root volume is provisioned
	// for, in the build and in the image; for types that are provisioned, such as
	// `io1`. Defaults to that of the source image's root volume.
	RootVolumeIOPS int64 `mapstructure:"root_volume_iops"`
	// The name of the root device in the image, such as `xvda`. Defaults to that of
	// the source image. Required with `from_scratch`, and then it is the
	// `device_name` of one of the block device mappings.
	RootDeviceName string `mapstructure:"root_device_name"`

	ictx interpolate.Context
	// patience is the environment's limit of waits; 0 is none.
	patience time.Duration
}

// DefaultMountPath is the mount_path of both builders: the page of osc-chroot
// names the same directory.
const DefaultMountPath = "/mnt/packer-amazon-chroot-volumes/{{.Device}}"

const (
	defaultCommandWrapper  = "{{.Command}}"
	defaultScratchRootType = "gp2"
)

// lateOptions are rendered when what they speak of is known.
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
	var err error
	if c.patience, err = patience(); err != nil {
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

// checkWrapper refuses a wrapper that would run nothing of what it is given.
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
func (c *Config) mounts() []chroot.ExtraMount {
	if c.ChrootMounts == nil {
		return chroot.DefaultMounts()
	}
	mounts := make([]chroot.ExtraMount, 0, len(c.ChrootMounts))
	for _, m := range c.ChrootMounts {
		mounts = append(mounts, chroot.ExtraMount{Type: m[0], Source: bindSource(m[0], m[1]), Target: m[2], Temporary: true})
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
