package state

import "time"

// Caller is on whose behalf, and where, a request is made. The wire formats
// take it from the request's signature.
type Caller struct {
	Account string
	Region  string
}

// Account is an owner of things.
type Account struct {
	ID    string `json:"id"`
	Alias string `json:"alias,omitempty"`
}

// Key is an access key pair, of an account or of a session in it.
type Key struct {
	ID      string `json:"id"`
	Secret  string `json:"secret"`
	Account string `json:"account"`
	// Session is nil for keys that do not end.
	Session *Session `json:"-"`
}

// Session is what makes keys temporary.
type Session struct {
	// Token has to come with every request that the keys sign.
	Token string
	// Until is when the keys end, by the machine's clock, which is also the one that
	// signatures are made and checked by.
	Until time.Time
	// ARN names who has them, such as arn:aws:sts::123456789012:assumed-role/R/name.
	ARN string
}

// Region is a place with zones, as DescribeRegions tells of it.
type Region struct {
	Name  string   `json:"name"`
	Zones []string `json:"zones"`
	// OptIn is whether the accounts use it; "" is OptInNotRequired.
	OptIn OptIn `json:"opt_in,omitempty"`
}

// OptIn is whether accounts have to ask for a region, and have, in EC2's words.
type OptIn string

// The statuses of a region. In one that is NotOptedIn there is nothing, and no
// request to it is answered.
const (
	OptInNotRequired OptIn = "opt-in-not-required"
	OptedIn          OptIn = "opted-in"
	NotOptedIn       OptIn = "not-opted-in"
)

// VM is a virtual machine: a record, and for one of them per region the machine
// that loopcloud runs on.
type VM struct {
	ID, Region, Zone, Account string
	ImageID, Type             string
	Architecture              string
	Virtualization            string
	RootDevice                string // /dev/sda1
	BootMode, UEFIData        string // its image's
	State                     VMState
	Launched                  time.Time
	// Host marks the machine that loopcloud runs on: only to it can a volume be
	// attached as a block device. Attaching to another one is a record.
	Host bool
	// Number tells the hosts of one place apart: 0 is the first.
	Number int `json:",omitempty"`
	// Outpost is the ARN of the Outpost that it runs on, "" in a Region.
	Outpost string `json:",omitempty"`
	// Metadata says how its metadata service answers.
	Metadata MetadataOptions `json:",omitzero"`
	Tags     map[string]string
}

// MetadataOptions say how the metadata service of a VM answers. The zero value is
// EC2's default.
type MetadataOptions struct {
	// Disabled refuses everything.
	Disabled bool
	// TokensRequired refuses questions without a token (IMDSv2 only).
	TokensRequired bool
	// HopLimit is how many hops an answer with a token travels; 0 is 1.
	HopLimit int
}

// Hops is how many hops an answer with a token travels.
func (m MetadataOptions) Hops() int { return max(m.HopLimit, 1) }

// VMState is pending, running, shutting-down or terminated.
type VMState string

// The states of a VM.
const (
	VMPending      VMState = "pending"
	VMRunning      VMState = "running"
	VMShuttingDown VMState = "shutting-down"
	VMTerminated   VMState = "terminated"
)

// VolumeState is where a volume is in its life.
type VolumeState string

// The states of a volume.
const (
	VolumeCreating  VolumeState = "creating"
	VolumeAvailable VolumeState = "available"
	VolumeInUse     VolumeState = "in-use"
	VolumeDeleting  VolumeState = "deleting"
	VolumeError     VolumeState = "error"
)

// Volume is a volume as it is seen now.
type Volume struct {
	ID, Region, Zone, Account string
	SizeGiB                   int64
	Type                      string // standard, gp2, gp3, io1, io2, st1, sc1
	IOPS, Throughput          int64
	SnapshotID                string
	Encrypted                 bool
	KMSKeyID                  string
	State                     VolumeState
	Created                   time.Time
	Attachment                *Attachment
	// Modification is the last ModifyVolume, nil if there was none.
	Modification *Modification
	// Token is the client token that it was created with.
	Token string
	// Outpost is the ARN of the Outpost that it is on, "" in a Region.
	Outpost string `json:",omitempty"`
	Tags    map[string]string
}

// AttachState is where an attachment is in its life.
type AttachState string

// The states of an attachment.
const (
	Attaching AttachState = "attaching"
	Attached  AttachState = "attached"
	Detaching AttachState = "detaching"
	Detached  AttachState = "detached"
)

// Attachment ties a volume to a VM.
type Attachment struct {
	VolumeID, VMID string
	Device         string // as asked for: /dev/sdf
	// Path is the block device's node on the host, /dev/xvdf; empty when the VM
	// is a record only.
	Path                string
	State               AttachState
	Attached            time.Time
	DeleteOnTermination bool
}

// Modification is the progress of a ModifyVolume.
type Modification struct {
	State                              string // modifying, optimizing, completed
	Progress                           int64
	Started, Ended                     time.Time
	FromSize, ToSize, FromIOPS, ToIOPS int64
	FromThroughput, ToThroughput       int64
	FromType, ToType                   string
}

// SnapshotState is where a snapshot is in its life.
type SnapshotState string

// The states of a snapshot.
const (
	SnapshotPending   SnapshotState = "pending"
	SnapshotCompleted SnapshotState = "completed"
	SnapshotError     SnapshotState = "error"
)

// Permissions say with whom a snapshot or an image is shared.
type Permissions struct {
	Public   bool     `json:"public,omitempty"`
	Accounts []string `json:"accounts,omitempty"`
	// Organizations and OrganizationalUnits are ARNs (images only).
	Organizations       []string `json:"organizations,omitempty"`
	OrganizationalUnits []string `json:"organizational_units,omitempty"`
}

// Snapshot is a snapshot as it is seen now.
type Snapshot struct {
	ID, Region, Account string
	VolumeID            string
	SizeGiB             int64 // the volume's size
	Description         string
	Encrypted           bool
	KMSKeyID            string
	State               SnapshotState
	Reason              string // of the state error
	Progress            int    // percent
	Started             time.Time
	CreateVolume        Permissions
	ProductCodes        []string
	// Token is the client token that it was created with.
	Token string
	Tags  map[string]string
}

// ImageState is where an image is in its life.
type ImageState string

// The states of an image.
const (
	ImagePending   ImageState = "pending"
	ImageAvailable ImageState = "available"
	ImageFailed    ImageState = "failed"
	ImageDisabled  ImageState = "disabled"
)

// Protection is whether an image may be deregistered, in EC2's words.
type Protection string

// The protections of an image.
const (
	Unprotected              Protection = "disabled"
	ProtectedWithCooldown    Protection = "enabled-with-cooldown"
	ProtectedWithoutCooldown Protection = "enabled-without-cooldown"
)

// Mapping is one block device of an image.
type Mapping struct {
	Device      string `json:"device"`
	VirtualName string `json:"virtual_name,omitempty"`
	NoDevice    bool   `json:"no_device,omitempty"`
	// Volume is nil for a virtual or suppressed device.
	Volume *MappedVolume `json:"volume,omitempty"`
}

// MappedVolume is the volume that a mapping makes.
type MappedVolume struct {
	SnapshotID          string `json:"snapshot_id,omitempty"`
	SizeGiB             int64  `json:"size_gib,omitempty"`
	Type                string `json:"type,omitempty"`
	IOPS                int64  `json:"iops,omitempty"`
	Throughput          int64  `json:"throughput,omitempty"`
	DeleteOnTermination bool   `json:"delete_on_termination"`
	Encrypted           bool   `json:"encrypted,omitempty"`
	KMSKeyID            string `json:"kms_key_id,omitempty"`
}

// ImageAttributes are what an image says of the machines made from it.
type ImageAttributes struct {
	Architecture   string   `json:"architecture,omitempty"`   // i386, x86_64, arm64
	Virtualization string   `json:"virtualization,omitempty"` // hvm, paravirtual
	RootDevice     string   `json:"root_device,omitempty"`    // /dev/sda1
	BootMode       string   `json:"boot_mode,omitempty"`      // EC2: legacy-bios, uefi, uefi-preferred
	BootModes      []string `json:"boot_modes,omitempty"`     // OAPI: legacy, uefi
	TPM            string   `json:"tpm,omitempty"`            // EC2: v2.0
	TPMMandatory   bool     `json:"tpm_mandatory,omitempty"`  // OAPI
	IMDS           string   `json:"imds,omitempty"`           // v2.0
	UEFIData       string   `json:"uefi_data,omitempty"`
	ENA            bool     `json:"ena,omitempty"`
	SRIOV          string   `json:"sriov,omitempty"` // simple
	KernelID       string   `json:"kernel_id,omitempty"`
	RamdiskID      string   `json:"ramdisk_id,omitempty"`
	ProductCodes   []string `json:"product_codes,omitempty"`
}

// Image is an image as it is seen now.
type Image struct {
	ID, Region, Account string
	Name, Description   string
	State               ImageState
	Reason              string
	Created             time.Time
	Deprecated          time.Time // zero: no deprecation set
	LastLaunched        time.Time // zero: never
	// Disabled keeps it from being launched, copied and, unless asked for, listed.
	Disabled bool
	// Protection keeps it from being deregistered; "" is Unprotected.
	Protection Protection
	// ProtectedUntil is when the cooldown of a protection that was taken away ends.
	ProtectedUntil time.Time
	SourceImageID  string // of a copy
	SourceRegion   string
	Mappings       []Mapping
	Launch         Permissions
	Tags           map[string]string
	ImageAttributes
}

// Tag is one tag of one thing.
type Tag struct {
	ResourceID   string
	ResourceType string // image, instance, snapshot, volume
	Key, Value   string
}

func (v VM) key() string       { return v.ID }
func (v Volume) key() string   { return v.ID }
func (s Snapshot) key() string { return s.ID }
func (i Image) key() string    { return i.ID }

func (v VM) born() time.Time       { return v.Launched }
func (v Volume) born() time.Time   { return v.Created }
func (s Snapshot) born() time.Time { return s.Started }
func (i Image) born() time.Time    { return i.Created }

// place is whose and where a thing is.
func (v VM) place() Caller       { return Caller{v.Account, v.Region} }
func (v Volume) place() Caller   { return Caller{v.Account, v.Region} }
func (s Snapshot) place() Caller { return Caller{s.Account, s.Region} }
func (i Image) place() Caller    { return Caller{i.Account, i.Region} }
