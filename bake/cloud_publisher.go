package bake

import "context"

// Publisher is the part of a Cloud that works on existing images: images of the same name
// that are replaced, copies, and the permissions of an available image. As in Cloud, each
// method makes one request, is idempotent, and does not wait for a state.
type Publisher interface {
	// Named lists the account's own images that have exactly this name, in this
	// cloud's region.
	Named(ctx context.Context, name string) ([]ImageID, error)

	// Publication returns the regions of the image. It is called before anything is created,
	// and returns an error if an option for the image is known to be impossible.
	Publication(context.Context, Facts) (Publication, error)

	// In returns the same account's cloud in another region; itself for its own region. Host
	// and Source are those of the region that the build runs in.
	In(region string) Cloud

	// Copy requests a copy, in this cloud's region, of an image of the account, or of one
	// that the account may use.
	Copy(context.Context, CopySpec) (ImageID, error)
	// FindCopies lists the account's images in this cloud's region that were copied
	// from the image and have the name.
	FindCopies(ctx context.Context, source ImageID, name string) ([]ImageID, error)
	// FindCopied lists the snapshots in this cloud's region that are made with a copy of an
	// image, if the cloud's image does not list them while it is pending.
	FindCopied(ctx context.Context, copied ImageID) ([]SnapshotID, error)

	// Publish gives an available image, and the snapshots made for it, the properties that
	// could not be given at creation: permissions, deprecation, protection. It makes no
	// request if there are none.
	Publish(context.Context, PublishSpec) error
	// Unguard ends the protection against deregistration that Publish has given, or was
	// about to give when its build was killed: another Cloud value may have published. An
	// image that is not protected, or does not exist, is no error.
	Unguard(context.Context, ImageID) error

	// Record reads all that is needed to register an image again. It returns an error if
	// the image cannot be deregistered or could not be restored; the error wraps ErrNotFound
	// if it is gone.
	Record(context.Context, ImageID) (Record, error)
	// CheckRecord returns why a record cannot be of the image that it names; nil if it
	// can. It makes no request.
	CheckRecord(Record) error
	// Restore registers an image again as it was recorded. Its snapshots must still exist.
	// The new image has another id.
	Restore(context.Context, Record) (ImageID, error)
	// Regain gives an image that was registered again the permissions, tags and times
	// that it had and that registering could not give it.
	Regain(context.Context, Record, ImageID) error
}

// Publication holds the regions of an image, and the cloud's decisions about it.
type Publication struct {
	// Copies are made of the registered image once it is available, side by side.
	Copies []Copy
	// Passing means that the registered image is only copied: it has a name of its own, and
	// it and its snapshot are removed when the copies are available. It must be true if a
	// copy is in the build's own region.
	Passing bool
	// Guarded means that Publish protects the images from deregistration.
	Guarded bool
	// Root is how the root volume is encrypted when it is created.
	Root Encryption
	// Details are the cloud's other decisions, in its own form: CreateVolume and Register
	// get them back.
	Details any
}

// Copy is a requested copy.
type Copy struct {
	Region string
	// Encrypted asks for the copy's snapshots to be encrypted; those of an encrypted
	// image are in any case.
	Encrypted bool
	// KMSKeyID is the key in the copy's region; empty means the region's default.
	KMSKeyID string
}

// CopySpec is the specification of a copy.
type CopySpec struct {
	Build        BuildID
	Source       ImageID
	SourceRegion string
	Name         string
	Description  string
	ImageTags    map[string]string
	SnapshotTags map[string]string
	Encrypted    bool
	KMSKeyID     string
	// Shared are snapshots of the source: a copy that uses one has not made it.
	Shared []SnapshotID
}

// PublishSpec is an image to publish.
type PublishSpec struct {
	Image ImageID
	// Snapshots are those that were made for the image.
	Snapshots []SnapshotID
}

// Record is an image as it can be registered again. It is written to the journal.
type Record struct {
	Image ImageID `json:"image"`
	Name  string  `json:"name"`
	// Snapshots are those of its block devices.
	Snapshots []SnapshotID `json:"snapshots"`
	// Data holds the rest of the image's description in the cloud's own form.
	Data []byte `json:"data"`
}

// Product is an image that a build made.
type Product struct {
	Region string
	Image  ImageID
	// Snapshots are those that were made for it, the root device's first.
	Snapshots []SnapshotID
}
