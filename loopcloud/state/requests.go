package state

import (
	"crypto/sha256"
	"time"
)

// The requests that the dialects pass to the state. A zero field was not given. IDDigits is the
// number of hexadecimal digits in a new ID: 17 for EC2 and 8 for the Outscale API; 0 means 17.
//
// A client token that is used again must come with the same request. Fields that JSON leaves out
// are not compared.

// VolumeRequest requests a volume.
type VolumeRequest struct {
	Zone, SnapshotID, Type string
	SizeGiB                int64
	IOPS, Throughput       int64
	Encrypted              bool
	KMSKeyID               string
	// Outpost is the ARN of the Outpost to create the volume on, "" in the Region.
	Outpost string
	// Defaults applies the account's Settings to encryption, as EC2 does. Outscale has no such
	// settings.
	Defaults bool `json:"-"`
	Tags     map[string]string
	Token    string `json:"-"`
	IDDigits int    `json:"-"`
	DryRun   bool   `json:"-"`
}

// VolumeChange requests a change of a volume. Zero fields stay as they are.
type VolumeChange struct {
	SizeGiB          int64
	Type             string
	IOPS, Throughput int64
	// LimitRate applies EC2's limit of modifications per day.
	LimitRate bool `json:"-"`
	DryRun    bool `json:"-"`
}

// AttachRequest requests an attachment.
type AttachRequest struct {
	VolumeID, VMID, Device string
	// RefuseModifying refuses a volume that is in the state modifying, as EC2 does.
	RefuseModifying bool `json:"-"`
	DryRun          bool `json:"-"`
}

// DetachRequest requests the end of an attachment. VMID and Device, if given, must match the
// attachment. Force detaches a device that is in use.
type DetachRequest struct {
	VolumeID, VMID, Device string
	Force, DryRun          bool
}

// SnapshotRequest requests a snapshot of a volume.
type SnapshotRequest struct {
	VolumeID, Description string
	Tags                  map[string]string
	Token                 string `json:"-"`
	IDDigits              int    `json:"-"`
	DryRun                bool   `json:"-"`
}

// SnapshotCopyRequest requests a copy in the caller's region.
type SnapshotCopyRequest struct {
	SourceID, SourceRegion, Description string
	Encrypted                           bool
	KMSKeyID                            string
	Defaults                            bool `json:"-"` // as in VolumeRequest
	Tags                                map[string]string
	Token                               string `json:"-"`
	IDDigits                            int    `json:"-"`
	DryRun                              bool   `json:"-"`
}

// UploadRequest requests a snapshot that is written block by block.
type UploadRequest struct {
	SizeGiB               int64
	ParentID, Description string
	// Encrypted is nil if the request does not say.
	Encrypted *bool
	KMSKeyID  string
	// Timeout is how long the snapshot stays pending without writes; 0 means an hour.
	Timeout  time.Duration
	Tags     map[string]string
	Token    string `json:"-"`
	IDDigits int    `json:"-"`
}

// BlockData is a block to write.
type BlockData struct {
	Index int64
	Data  []byte
	Sum   [sha256.Size]byte
	// Progress is the progress of the whole snapshot in percent, as the client reports it.
	Progress int
}

// Seal describes all blocks that were written: their number, and the SHA-256 of their checksums
// in ascending order of their indexes. Sum may be nil.
type Seal struct {
	Count int64
	Sum   *[sha256.Size]byte
}

// ImageRequest requests an image of snapshots.
type ImageRequest struct {
	Name, Description string
	Mappings          []Mapping
	Attributes        ImageAttributes
	Tags              map[string]string
	// ID, if given, is the ID of the new image. Only imports set it.
	ID string
	// Imported marks an import, which always succeeds.
	Imported bool `json:"-"`
	IDDigits int  `json:"-"`
	DryRun   bool `json:"-"`
}

// ImageCopyRequest requests a copy of an image and its snapshots in the caller's region.
type ImageCopyRequest struct {
	SourceID, SourceRegion string
	Name, Description      string
	Encrypted              bool
	KMSKeyID               string
	Defaults               bool `json:"-"` // as in VolumeRequest
	CopyTags               bool
	Tags                   map[string]string
	SnapshotTags           map[string]string
	// Readable requires that the snapshots are shared with the caller as well, as EC2 does.
	// Outscale copies any image that the account can see.
	Readable bool
	Token    string `json:"-"`
	IDDigits int    `json:"-"`
	DryRun   bool   `json:"-"`
}

// VMRequest requests VM records.
type VMRequest struct {
	ImageID, Type, Zone string
	Count               int
	Tags                map[string]string
	VolumeTags          map[string]string // of the volumes created with them
	Token               string            `json:"-"`
	IDDigits            int               `json:"-"`
	DryRun              bool              `json:"-"`
}

// PermissionChange adds to and removes from Permissions.
type PermissionChange struct {
	Add, Remove Permissions
	// RemoveAll removes all permissions first.
	RemoveAll bool
}

// SnapshotImport requests a snapshot of a file on this machine.
type SnapshotImport struct {
	// File is a raw disk. It is read before the call returns.
	File string
	// SizeGiB is the size of the snapshot; 0 means the size of the file, rounded up to a GiB.
	SizeGiB     int64
	Description string
	Tags        map[string]string
	IDDigits    int
}
