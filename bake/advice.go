package bake

import (
	"fmt"
	"slices"
	"strings"
)

// advice tells a user who wanted everything left as it is how to look at it and
// how to remove it, in the order that works. The acts are those that are to be
// undone, in that order. What was asked for and not answered is not known to be
// there.
func advice(acts []act) []string {
	var advice, steps []string
	for _, a := range acts {
		if !a.Answered || a.goesWithOneOf(acts) {
			continue
		}
		if a.Kind == actMount {
			advice = append(advice, fmt.Sprintf("To look at the root: sudo chroot %s /bin/sh", a.Path))
		}
		if step := a.removal(); step != "" {
			steps = append(steps, step)
		}
	}
	if len(steps) > 0 {
		advice = append(advice, "To remove what is left, in this order: "+strings.Join(steps, "; "))
	}
	return advice
}

// goesWithOneOf tells whether what the act has made is removed with the copy that it
// came with.
func (a act) goesWithOneOf(acts []act) bool {
	return a.Kind == actFurther && slices.ContainsFunc(acts, func(other act) bool { return other.Kind == actCopy && other.Image == a.Image })
}

// removalOfCopy names the snapshots, once they are known.
func (a act) removalOfCopy() string {
	step := fmt.Sprintf("deregister image %s in %s", a.Image, a.Region)
	if len(a.Snapshots) == 0 {
		return step + " and delete the snapshots made for it"
	}
	return fmt.Sprintf("%s; delete %s in %s", step, listed(a.Snapshots), a.Region)
}

// listed names snapshots.
func listed(ids []SnapshotID) string {
	names := make([]string, len(ids))
	for i, id := range ids {
		names[i] = "snapshot " + string(id)
	}
	return strings.Join(names, " and ")
}

// removal tells a user how to undo an act; empty where it ends with this process.
func (a act) removal() string {
	switch a.Kind {
	case actVolume:
		return fmt.Sprintf("delete volume %s", a.Volume)
	case actAttachment:
		return fmt.Sprintf("detach volume %s from %s (%s)", a.Volume, a.Host, a.Device)
	case actMount:
		return fmt.Sprintf("run: sudo umount -R %s", a.Path)
	case actSnapshot:
		return fmt.Sprintf("delete snapshot %s", a.Snapshot)
	case actImage:
		return fmt.Sprintf("deregister image %s", a.Image)
	case actCopy:
		return a.removalOfCopy()
	case actFurther:
		return fmt.Sprintf("delete snapshot %s in %s", a.Snapshot, a.Region)
	case actReplaced:
		return fmt.Sprintf("register %q in %s again, as %s was, of %s", a.Record.Name, a.Region, a.Image, listed(a.Record.Snapshots))
	}
	return ""
}
