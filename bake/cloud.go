package bake

import (
	"context"
	"errors"
	"time"
)

// The names by which a cloud knows its resources. They are types so that a snapshot
// cannot be passed instead of a volume.
type (
	// BuildID names one build; scaffold that the cloud holds is tagged with it.
	BuildID string
	// HostID names the virtual machine that the build runs on.
	HostID string
	// VolumeID names a volume.
	VolumeID string
	// SnapshotID names a snapshot.
	SnapshotID string
	// ImageID names an image.
	ImageID string
	// DeviceName is the name that the cloud is asked to attach a volume under,
	// such as /dev/sdf. The kernel may give the device another one.
	DeviceName string
	// DevicePath is the kernel's name of a block device, such as /dev/xvdf or
	// /dev/nvme1n1.
	DevicePath string
)

// BuildTag is the key of the tag that carries the BuildID on every volume a
// build creates. The snapshot of such a volume and the image of such a
// snapshot are found through it, so they need no tag of their own.
const BuildTag = "packer-chroot-build"

// ErrDeviceTaken is wrapped by Cloud.Attach if the device name is in use according to
// the cloud: another name may work.
var ErrDeviceTaken = errors.New("device name is in use")

// ErrNotFound is wrapped by the reading calls of a Cloud if the cloud does not know the
// id.
var ErrNotFound = errors.New("not found")

// A Cloud performs the parts of a build that need a cloud's API. Its methods make one
// request each and do not wait for a state: bake waits.
//
// Every creating call is idempotent: made twice with the same specification by the same
// Cloud value it creates one resource. Every removing call returns nil if the resource is
// gone already. An implementation retries throttling and transport faults by itself. A
// changing call whose error wraps ErrUnsettled may succeed when it is repeated; any other
// error is final. A resource that a removing call does not find is gone only if it is not
// shown either.
type Cloud interface {
	// Host returns the virtual machine that this program runs on, with the device names
	// that are taken there.
	Host(context.Context) (Host, error)

	// Source finds the one image to start from. It is not called for a build
	// from scratch.
	Source(context.Context) (Image, error)

	// VolumeType returns the rules of a volume type. The empty name stands for the type of
	// a build from scratch that names none. A type that the cloud does not have is
	// provisioned with nothing.
	VolumeType(name string) VolumeType
	// CreateVolume requests a volume that carries its BuildID from the first moment: as a
	// tag, or in another part of the request that the cloud keeps. An id beside an error is
	// that of a volume that was created and does not fit.
	CreateVolume(context.Context, VolumeSpec) (VolumeID, error)
	// Volume reads a volume; an error wraps ErrNotFound if there is none.
	Volume(context.Context, VolumeID) (Volume, error)
	// FindVolumes lists the volumes that carry the build's id.
	FindVolumes(context.Context, BuildID) ([]VolumeID, error)
	// Tag gives a resource, which the cloud has shown to be the build's, the tags that its
	// creating call could not. It makes no request if creating calls give all tags, or if
	// there are none.
	Tag(ctx context.Context, id string, tags map[string]string) error
	// DeleteVolume deletes a volume that is not attached.
	DeleteVolume(context.Context, VolumeID) error

	// DeviceNames lists the device names that can be requested, best first.
	DeviceNames() []DeviceName
	// Attach requests the attachment of the volume to the host. An error wraps
	// ErrDeviceTaken if another name may work, and ErrUnsettled as well if the name may not
	// be the reason.
	Attach(context.Context, VolumeID, HostID, DeviceName) error
	// Detach requests the detachment of the volume from the host.
	Detach(context.Context, VolumeID, HostID) error

	// CreateSnapshot requests a snapshot of a volume.
	CreateSnapshot(context.Context, SnapshotSpec) (SnapshotID, error)
	// Snapshot reads a snapshot; an error wraps ErrNotFound if there is none.
	Snapshot(context.Context, SnapshotID) (Snapshot, error)
	// FindSnapshots lists the snapshots taken of a volume.
	FindSnapshots(context.Context, VolumeID) ([]SnapshotID, error)
	// DeleteSnapshot deletes a snapshot that no image uses.
	DeleteSnapshot(context.Context, SnapshotID) error

	// Register requests an image with the snapshot as its root device. An error wraps
	// ErrNameTaken if another image may have the name, and ErrUnsettled as well if none is
	// shown to have it.
	Register(context.Context, ImageSpec) (ImageID, error)
	// Image reads an image; an error wraps ErrNotFound if there is none, or if it
	// has been deregistered.
	Image(context.Context, ImageID) (Image, error)
	// FindImages lists the images that use a snapshot.
	FindImages(context.Context, SnapshotID) ([]ImageID, error)
	// Deregister deregisters an image; its snapshots stay.
	Deregister(context.Context, ImageID) error

	Publisher
}

// Host is the virtual machine that a build runs on.
type Host struct {
	// Cloud is the identity of the cloud; empty if it has none: see undo.Header.
	Cloud  string
	ID     HostID
	Region string
	// Account is the id of the account that the build's keys belong to.
	Account string
	// Zone is the availability zone (AWS) or subregion (Outscale): volumes are
	// created there.
	Zone string
	// Placement is the part of the zone in which volumes must be created to be attached, in
	// the cloud's own form; empty if any part will do.
	Placement string
	// Architecture is that of the host, in the cloud's form; empty if the cloud does not
	// report it.
	Architecture string
	// Taken lists the device names that are in use according to the cloud.
	Taken []DeviceName
}

// VolumeType holds the rules of a volume type.
type VolumeType struct {
	Name string
	// TakesIOPS reports whether a volume is provisioned with IOPS; NeedsIOPS, whether they
	// must be given.
	TakesIOPS, NeedsIOPS bool
	// TakesThroughput reports whether a volume is provisioned with a throughput.
	TakesThroughput bool
}

// VolumeSpec is the specification of a volume.
type VolumeSpec struct {
	Build BuildID
	Zone  string
	// Snapshot has the content of the volume; empty for a blank volume.
	Snapshot SnapshotID
	// SizeGiB is in GiB, as both clouds count.
	SizeGiB int64
	// Type is the cloud's volume type, such as gp2; empty for the cloud's default.
	Type string
	// IOPS is for types that take it; 0 otherwise.
	IOPS int64
	// Throughput is in MiB/s, for types that take it; 0 otherwise.
	Throughput int64
	// Placement is Host.Placement.
	Placement string
	// Encryption is Publication.Root.
	Encryption
	// Details is Publication.Details.
	Details any
	Tags    map[string]string
}

// Encryption is how a volume is encrypted. The zero value leaves it to the cloud.
type Encryption struct {
	Encrypted bool
	// KMSKeyID is the key; empty means the cloud's choice.
	KMSKeyID string
}

// VolumeState is the state of a volume.
type VolumeState string

// The states of a volume; each cloud's words are translated to these.
const (
	VolumeCreating  VolumeState = "creating"
	VolumeAvailable VolumeState = "available"
	VolumeInUse     VolumeState = "in-use"
	VolumeDeleting  VolumeState = "deleting"
	VolumeError     VolumeState = "error"
)

// AttachState is the state of an attachment.
type AttachState string

// The states of an attachment. Detached is also the state of a volume that was
// never attached.
const (
	Detached  AttachState = "detached"
	Attaching AttachState = "attaching"
	Attached  AttachState = "attached"
	Detaching AttachState = "detaching"
)

// Volume is a volume as the cloud describes it.
type Volume struct {
	ID      VolumeID
	State   VolumeState
	SizeGiB int64
	// Snapshot is the snapshot that the volume was created from; empty for a blank volume.
	Snapshot SnapshotID
	Zone     string
	// Created is the time of its creation; zero if the cloud does not describe it yet.
	Created time.Time
	// Build is the id of the build that it carries, as far as this Cloud knows; empty if
	// none is known.
	Build BuildID
	// Attach is the state of the attachment to Host under Device.
	Attach AttachState
	Host   HostID
	Device DeviceName
}

// SnapshotSpec is the specification of a snapshot.
type SnapshotSpec struct {
	Build  BuildID
	Volume VolumeID
	// Description is also in the snapshot's act, as evidence: a snapshot with another description
	// is not the build's. So a Cloud passes it on unchanged.
	Description string
	Tags        map[string]string
}

// SnapshotState is the state of a snapshot.
type SnapshotState string

// The states of a snapshot; each cloud's words are translated to these.
const (
	SnapshotPending   SnapshotState = "pending"
	SnapshotCompleted SnapshotState = "completed"
	SnapshotError     SnapshotState = "error"
)

// Snapshot is a snapshot as the cloud describes it.
type Snapshot struct {
	ID    SnapshotID
	State SnapshotState
	// Percent is the progress, 0 to 100; -1 if the cloud does not report it.
	Percent int
	// Reason is the reason for SnapshotError, if the cloud gives one.
	Reason string
	// Begun is the time of the request; zero if the cloud does not report it.
	Begun time.Time
	// Volume is the source of the snapshot; empty if it is not known yet, or if the snapshot
	// is a copy.
	Volume VolumeID
	// Description is the description that the snapshot was requested with.
	Description string
	// Build is the value of BuildTag; empty if the snapshot does not carry it.
	Build BuildID
}

// settled reports whether the state of the snapshot is final.
func (s Snapshot) settled() bool { return s.State == SnapshotCompleted || s.State == SnapshotError }

// ImageSpec is the specification of an image. A Cloud adds the properties that only one
// cloud has (enhanced networking, product codes, further block devices).
type ImageSpec struct {
	Build       BuildID
	Name        string
	Description string
	Tags        map[string]string
	Snapshot    SnapshotID
	// Source is the image that the build started from; nil from scratch.
	Source *Image
	// SizeGiB, VolumeType, IOPS and Throughput (MiB/s) describe the root volume.
	SizeGiB          int64
	VolumeType       string
	IOPS, Throughput int64
	// Details is Publication.Details.
	Details any
}

// ImageState is the state of an image.
type ImageState string

// The states of an image; each cloud's words are translated to these.
const (
	ImagePending   ImageState = "pending"
	ImageAvailable ImageState = "available"
	ImageFailed    ImageState = "failed"
)

// Image is an image as the cloud describes it.
type Image struct {
	ID    ImageID
	Name  string
	State ImageState
	// Reason is the reason for ImageFailed, if the cloud gives one.
	Reason string
	// Owner is the account id; OwnerName the alias, if there is one.
	Owner, OwnerName string
	// Created is the creation date as the cloud writes it, and Begun the same as a time;
	// zero if the cloud does not report it.
	Created string
	Begun   time.Time
	// CopyOf is the image that it was copied from; empty if the cloud does not report it.
	CopyOf ImageID
	// Architecture and Virtualization are in the cloud's words: x86_64, hvm.
	Architecture, Virtualization string
	// RootDevice is the root device's name, such as /dev/sda1.
	RootDevice string
	// Root describes the root device's volume.
	Root RootVolume
	// Snapshots are those of all its block devices, the root device's first.
	Snapshots []SnapshotID
	// Locked reports whether the account may use the image, but not its snapshots: a build
	// can only start from a copy of it.
	Locked bool
	Tags   map[string]string
	// Details is the complete description of a source image in the cloud's own form:
	// Cloud.Source returns it, and the Cloud reads it if the image is an argument. Nil means
	// unknown.
	Details any
}

// RootVolume describes the root device's volume of an image.
type RootVolume struct {
	Snapshot SnapshotID
	SizeGiB  int64
	Type     string
	IOPS     int64
	// Throughput is in MiB/s; 0 if the type takes none.
	Throughput int64
}
