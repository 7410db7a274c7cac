package cow

import "github.com/packer-chroot/packer-plugin-chroot/lazydisk/block"

// Change is a block that was written, with its whole content.
type Change struct {
	Index int64
	// Sum is the checksum of the content.
	Sum block.Sum
	// Zero reports whether the content is zeros only.
	Zero bool
	// InParent reports whether the source has the block. A block of zeros that the source does
	// not have need not be uploaded, unless the result may be encrypted.
	InParent bool
	// Equal reports whether the content is that of the source. Such a block need not be
	// uploaded.
	Equal bool
}
