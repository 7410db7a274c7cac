package state

import "time"

// Caller is the account that makes a request, and the region that the request is for. The
// dialects take both from the request's signature.
type Caller struct {
	Account string
	Region  string
}

// Account is an owner of resources.
type Account struct {
	ID    string `json:"id"`
	Alias string `json:"alias,omitempty"`
}

// Key is an access key pair of an account or of a session in it.
type Key struct {
	ID      string `json:"id"`
	Secret  string `json:"secret"`
	Account string `json:"account"`
	// Session is nil for keys that do not expire.
	Session *Session `json:"-"`
}

// Session holds the attributes of temporary keys.
type Session struct {
	// Token must be sent with every request that is signed with the keys.
	Token string
	// Until is when the keys expire, by the machine's clock. Signatures are created and checked
	// by the same clock.
	Until time.Time
	// ARN is the ARN of the session, such as arn:aws:sts::123456789012:assumed-role/R/name.
	ARN string
}

// Region is a region and its zones.
type Region struct {
	Name  string   `json:"name"`
	Zones []string `json:"zones"`
	// OptIn is the opt-in status; "" means OptInNotRequired.
	OptIn OptIn `json:"opt_in,omitempty"`
}

// OptIn is EC2's opt-in status of a region.
type OptIn string

// The opt-in statuses of a region. A region that is NotOptedIn has no resources and refuses all
// requests.
const (
	OptInNotRequired OptIn = "opt-in-not-required"
	OptedIn          OptIn = "opted-in"
	NotOptedIn       OptIn = "not-opted-in"
)

// VM is a virtual machine. It is a record only; one VM in each region stands for the machine that
// loopcloud runs on.
type VM struct {
	ID, Region, Zone, Account string
	ImageID, Type             string
	Architecture              string
	Virtualization            string
	RootDevice                string // /dev/sda1
	BootMode, UEFIData        string // of its image
	State                     VMState
	Launched                  time.Time
	// Host marks the machine that loopcloud runs on. Only attaching a volume to this VM creates a
	// block device.
	Host bool
	// Number distinguishes several hosts in one region; the first is 0.
	Number int `json:",omitempty"`
	// Outpost is the ARN of the VM's Outpost, "" in a Region.
	Outpost string `json:",omitempty"`
	// Metadata holds the options of its metadata service.
	Metadata MetadataOptions `json:",omitzero"`
	Tags     map[string]string
}

// MetadataOptions are the options of a VM's metadata service. The zero value is EC2's default.
type MetadataOptions struct {
	// Disabled refuses all requests.
	Disabled bool
	// TokensRequired refuses requests without a token (IMDSv2 only).
	TokensRequired bool
	// HopLimit is the number of network hops that a response with a token travels; 0 means 1.
	HopLimit int
}

// Hops returns the number of network hops that a response with a token travels.
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

// VolumeState is the state of a volume.
type VolumeState string

// The states of a volume.
const (
	VolumeCreating  VolumeState = "creating"
	VolumeAvailable VolumeState = "available"
	VolumeInUse     VolumeState = "in-use"
	VolumeDeleting  VolumeState = "deleting"
	VolumeError     VolumeState = "error"
)

// Volume is a volume at the time of the call.
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
	// Token is the client token of the request that created it.
	Token string
	// Outpost is the ARN of its Outpost, "" in a Region.
	Outpost string `json:",omitempty"`
	Tags    map[string]string
}

// AttachState is the state of an attachment.
type AttachState string

// The states of an attachment.
const (
	Attaching AttachState = "attaching"
	Attached  AttachState = "attached"
	Detaching AttachState = "detaching"
	Detached  AttachState = "detached"
)

// Attachment connects a volume to a VM.
type Attachment struct {
	VolumeID, VMID string
	Device         string // as requested: /dev/sdf
	// Path is the block device's node on the host, such as /dev/xvdf. It is empty if the VM is
	// not this machine.
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

// SnapshotState is the state of a snapshot.
type SnapshotState string

// The states of a snapshot.
const (
	SnapshotPending   SnapshotState = "pending"
	SnapshotCompleted SnapshotState = "completed"
	SnapshotError     SnapshotState = "error"
)

// Permissions are the accounts that a snapshot or an image is shared with.
type Permissions struct {
	Public   bool     `json:"public,omitempty"`
	Accounts []string `json:"accounts,omitempty"`
	// Organizations and OrganizationalUnits are ARNs (images only).
	Organizations       []string `json:"organizations,omitempty"`
	OrganizationalUnits []string `json:"organizational_units,omitempty"`
}

// Snapshot is a snapshot at the time of the call.
type Snapshot struct {
	ID, Region, Account string
	VolumeID            string
	SizeGiB             int64 // the size of the volume
	Description         string
	Encrypted           bool
	KMSKeyID            string
	State               SnapshotState
	Reason              string // the reason of the state error
	Progress            int    // in percent
	Started             time.Time
	CreateVolume        Permissions
	ProductCodes        []string
	// ParentID is the snapshot that a snapshot began with which was written block by block.
	ParentID string `json:",omitempty"`
	// Token is the client token of the request that created it.
	Token string
	Tags  map[string]string
}

// ImageState is the state of an image.
type ImageState string

// The states of an image.
const (
	ImagePending   ImageState = "pending"
	ImageAvailable ImageState = "available"
	ImageFailed    ImageState = "failed"
	ImageDisabled  ImageState = "disabled"
)

// Protection is EC2's status of an image's deregistration protection.
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

// MappedVolume describes the volume of a block device of an image.
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

// ImageAttributes are the attributes of an image that its VMs inherit.
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

// Image is an image at the time of the call.
type Image struct {
	ID, Region, Account string
	Name, Description   string
	State               ImageState
	Reason              string
	Created             time.Time
	Deprecated          time.Time // zero if not set
	LastLaunched        time.Time // zero if never
	// Disabled prevents launching, copying and, by default, listing the image.
	Disabled bool
	// Protection prevents deregistration; "" means Unprotected.
	Protection Protection
	// ProtectedUntil is when the cooldown of a disabled protection ends.
	ProtectedUntil time.Time
	SourceImageID  string // for a copy
	SourceRegion   string
	Mappings       []Mapping
	Launch         Permissions
	Tags           map[string]string
	ImageAttributes
}

// Tag is one tag of one resource.
type Tag struct {
	ResourceID   string
	ResourceType string // image, instance, snapshot, volume
	Key, Value   string
}

func (v VM) key() string       { return v.ID }
func (v Volume) key() string   { return v.ID }
func (s Snapshot) key() string { return s.ID }
func (i Image) key() string    { return i.ID }

func (v VM) createdAt() time.Time       { return v.Launched }
func (v Volume) createdAt() time.Time   { return v.Created }
func (s Snapshot) createdAt() time.Time { return s.Started }
func (i Image) createdAt() time.Time    { return i.Created }

// scope returns the account and the region of a resource.
func (v VM) scope() Caller       { return Caller{v.Account, v.Region} }
func (v Volume) scope() Caller   { return Caller{v.Account, v.Region} }
func (s Snapshot) scope() Caller { return Caller{s.Account, s.Region} }
func (i Image) scope() Caller    { return Caller{i.Account, i.Region} }
