package bake

import (
	"fmt"
	"strings"
)

// standing is what a build has made and what is still there: empty where nothing
// is. What was asked for and not answered is not known here; undo.Stack tells of
// that too.
type standing struct {
	volume VolumeID
	// host and name are where the volume is attached.
	host HostID
	name DeviceName
	// root is where it is mounted.
	root     string
	snapshot SnapshotID
	image    ImageID
}

// advice tells a user who wanted everything left as it is how to look at it and
// how to remove it, in the order that works.
func (s standing) advice() []string {
	var advice []string
	if s.root != "" {
		advice = append(advice, fmt.Sprintf("To look at the root: sudo chroot %s /bin/sh", s.root))
	}
	var steps []string
	step := func(there bool, format string, args ...any) {
		if there {
			steps = append(steps, fmt.Sprintf(format, args...))
		}
	}
	step(s.image != "", "deregister image %s", s.image)
	step(s.snapshot != "", "delete snapshot %s", s.snapshot)
	step(s.root != "", "run: sudo umount -R %s", s.root)
	step(s.volume != "" && s.host != "", "detach volume %s from %s (%s)", s.volume, s.host, s.name)
	step(s.volume != "", "delete volume %s", s.volume)
	if len(steps) > 0 {
		advice = append(advice, "To remove what is left, in this order: "+strings.Join(steps, "; "))
	}
	return advice
}
