package state

// The requests that state takes from the wire formats. A zero field is one that
// the caller did not give. IDDigits is how many hexadecimal digits a new id
// has: 17 for EC2, 8 for the Outscale API; 0 is 17.
//
// The fields that JSON leaves out do not count when a client token is compared
// with the request that it was first used for.

// VolumeRequest asks for a volume.
type VolumeRequest struct {
	Zone, SnapshotID, Type string
	SizeGiB                int64
	IOPS, Throughput       int64
	Encrypted              bool
	KMSKeyID               string
	// Outpost is the ARN of the Outpost to create the volume on, "" in the Region.
	Outpost string
	// Defaults has the account's Settings decide what is encrypted beside what is asked
	// for, as EC2 does. Outscale has no such settings.
	Defaults bool `json:"-"`
	Tags     map[string]string
	Token    string `json:"-"`
	IDDigits int    `json:"-"`
	DryRun   bool   `json:"-"`
}

// VolumeChange asks for a volume to be other than it is; zero keeps.
type VolumeChange struct {
	SizeGiB          int64
	Type             string
	IOPS, Throughput int64
	DryRun           bool `json:"-"`
}

// AttachRequest asks for an attachment.
type AttachRequest struct {
	VolumeID, VMID, Device string
	DryRun                 bool `json:"-"`
}

// DetachRequest asks for an attachment to end. VMID and Device, if given, must
// be the attachment's. Force detaches what is in use.
type DetachRequest struct {
	VolumeID, VMID, Device string
	Force, DryRun          bool
}

// SnapshotRequest asks for a snapshot of a volume.
type SnapshotRequest struct {
	VolumeID, Description string
	Tags                  map[string]string
	Token                 string `json:"-"`
	IDDigits              int    `json:"-"`
	DryRun                bool   `json:"-"`
}

// SnapshotCopyRequest asks for a copy in the caller's region.
type SnapshotCopyRequest struct {
	SourceID, SourceRegion, Description string
	Encrypted                           bool
	KMSKeyID                            string
	Defaults                            bool `json:"-"` // as of a VolumeRequest
	Tags                                map[string]string
	Token                               string `json:"-"`
	IDDigits                            int    `json:"-"`
	DryRun                              bool   `json:"-"`
}

// ImageRequest asks for an image of snapshots.
type ImageRequest struct {
	Name, Description string
	Mappings          []Mapping
	Attributes        ImageAttributes
	Tags              map[string]string
	// ID, if given, is the id to be: imports only.
	ID string
	// Imported marks an import, which no fate is asked for.
	Imported bool `json:"-"`
	IDDigits int  `json:"-"`
	DryRun   bool `json:"-"`
}

// ImageCopyRequest asks for a copy, snapshots included, in the caller's region.
type ImageCopyRequest struct {
	SourceID, SourceRegion string
	Name, Description      string
	Encrypted              bool
	KMSKeyID               string
	Defaults               bool `json:"-"` // as of a VolumeRequest
	CopyTags               bool
	Tags                   map[string]string
	SnapshotTags           map[string]string
	// Readable asks for the snapshots to be shared with the caller too, as EC2 does.
	// Outscale copies whatever image it lets an account see.
	Readable bool
	Token    string `json:"-"`
	IDDigits int    `json:"-"`
	DryRun   bool   `json:"-"`
}

// VMRequest asks for VM records.
type VMRequest struct {
	ImageID, Type, Zone string
	Count               int
	Tags                map[string]string
	VolumeTags          map[string]string // of the volumes that come with them
	Token               string            `json:"-"`
	IDDigits            int               `json:"-"`
	DryRun              bool              `json:"-"`
}

// PermissionChange adds to and removes from Permissions.
type PermissionChange struct {
	Add, Remove Permissions
	// RemoveAll removes whatever there was before.
	RemoveAll bool
}

// SnapshotImport asks for a snapshot of a file on the machine.
type SnapshotImport struct {
	// File is a raw disk. It is read before the call returns.
	File string
	// SizeGiB is the size to be; 0 is the file's, rounded up to a GiB.
	SizeGiB     int64
	Description string
	Tags        map[string]string
	IDDigits    int
}
