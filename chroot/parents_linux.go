package chroot

import (
	"fmt"

	"github.com/packer-chroot/packer-plugin-chroot/safedir"
)

// CheckMountParents fails if a user who is neither root nor the one who builds could put
// another directory in the place of a root's mount point, or of one of its parents.
// Commands run as root on that path for as long as the build lasts.
func CheckMountParents(path string) error {
	if err := safedir.Fixed(path); err != nil {
		return fmt.Errorf("%w; mount on a path that only root, or the user who builds, can change", err)
	}
	return nil
}
