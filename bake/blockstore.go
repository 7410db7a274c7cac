package bake

import (
	"context"

	"github.com/packer-chroot/packer-plugin-chroot/event"
	"github.com/packer-chroot/packer-plugin-chroot/lazydisk"
	"github.com/packer-chroot/packer-plugin-chroot/lazydisk/block"
)

// A BlockStore is the part of a Cloud for direct builds: it reads and writes snapshots without a
// volume and without a virtual machine. A Cloud that has one can be used with Plan.Direct. As in
// Cloud, a creating call is idempotent, a removing call succeeds if the resource is gone, and an
// implementation retries throttling and transport faults.
type BlockStore interface {
	// Place returns the account, the region and the identity of the cloud: a Host without ID,
	// Zone and Taken. It makes no request to a metadata service.
	Place(context.Context) (Host, error)
	// Basis returns the content that the new disk starts with, and the snapshot against which
	// it is uploaded. It is called in the preflight step, after Publication, and creates nothing. An
	// error means that the build is impossible.
	Basis(context.Context, Facts, Publication) (Basis, error)
	// Blocks returns the blocks of a snapshot, and the key that identifies it in the block
	// cache. The key is empty if its blocks must not be cached.
	Blocks(context.Context, SnapshotID) (source block.Source, key string, err error)
	// Start requests a snapshot that is written block by block. It carries the build's ID, as
	// BuildTag, from the first moment.
	Start(context.Context, StartSpec) (SnapshotID, error)
	// FindStarted lists the snapshots that carry the build's ID.
	FindStarted(context.Context, BuildID) ([]SnapshotID, error)
	// Upload writes the changed blocks to a started snapshot and requests its completion. After
	// an error it has not requested it.
	Upload(context.Context, UploadSpec) (Uploaded, error)
	// Unmark removes BuildTag from a snapshot. A snapshot without the tag, or one that does not
	// exist, is no error.
	Unmark(context.Context, SnapshotID) error
	// Requests returns the numbers of requests for single blocks until now. Those that succeed are
	// no events of their own, because there can be hundreds of thousands.
	Requests() []event.Requests
}

// Basis is the content that a direct disk starts with.
type Basis struct {
	// Read is the snapshot whose blocks are read. It is empty from scratch, and if Copy is made
	// first.
	Read SnapshotID
	// Parent is the parent of the new snapshot: only blocks that differ from it are uploaded.
	// It is empty or Read. If it is empty and Read is not, Upload writes the unchanged blocks
	// too.
	Parent SnapshotID
	// Encryption is that of the new snapshot. It is the zero value with a Parent, whose
	// encryption is inherited.
	Encryption
	// Copy is the copy of the source image to make or to wait for; nil if none is needed. Read
	// and Parent are then the copy's root snapshot.
	Copy *SourceCopy
	// Reason explains the choice to the user, in a sentence without a full stop. It is empty if
	// there was none.
	Reason string
}

// SourceCopy is a copy of the source image in the account.
type SourceCopy struct {
	// Pending is a copy that another build is making; empty if there is none. If it fails or is
	// gone, another copy is made.
	Pending ImageID
	// Keep means that the copy stays for later builds. It then carries Tags, by which Basis
	// finds it.
	Keep bool
	Tags map[string]string
	// Encryption is that of the copy.
	Encryption
}

// StartSpec is the specification of a snapshot that is written block by block.
type StartSpec struct {
	Build   BuildID
	SizeGiB int64
	// Parent is Basis.Parent.
	Parent SnapshotID
	// Encryption is Basis.Encryption.
	Encryption
	// Description is evidence, as SnapshotSpec.Description is.
	Description string
	// Tags are the tags besides BuildTag.
	Tags map[string]string
}

// UploadSpec is the specification of an upload.
type UploadSpec struct {
	Snapshot SnapshotID
	Basis    Basis
	// Changes calls a function with each block that was written and is not equal to the
	// source's, from a number of goroutines at once, as lazydisk.Client.Changes does. If it
	// returns an error, nothing may be completed.
	Changes func(ctx context.Context, workers int, call func(context.Context, lazydisk.Change) error) (lazydisk.Summary, error)
}

// Uploaded holds the figures of an upload.
type Uploaded struct {
	// Blocks is the number of blocks that were uploaded, and Skipped the number of changed
	// blocks that need no upload: zeros that the parent does not have either.
	Blocks, Skipped int64
	// Summary is that of UploadSpec.Changes.
	lazydisk.Summary
}

// blockStore returns the BlockStore of a Cloud; nil if it has none. That of a settled Cloud is settled
// too.
func blockStore(cloud Cloud) BlockStore {
	s, isSettled := cloud.(settling)
	if isSettled {
		cloud = s.Cloud
	}
	store, ok := cloud.(BlockStore)
	switch {
	case !ok:
		return nil
	case isSettled:
		return settlingStore{store, s}
	}
	return store
}
