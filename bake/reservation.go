package bake

import (
	"context"
	"strings"
)

// reservationAct is the reservation of device names on the host, so that other builds do
// not request them.
type reservationAct struct {
	call
	Reserved []DeviceName `json:"reserved,omitempty"`
	LockDir  string       `json:"lock_dir,omitempty"`

	// held are the names that this process has reserved; nil in another one.
	held *heldNames
}

// heldNames are device names that this process has reserved.
type heldNames struct {
	names    []DeviceName
	releases []func() error
	// lost means that a name may be reserved which only a keeper knew that has ended.
	lost bool
}

func (h *heldNames) add(name DeviceName, release func() error) {
	h.names, h.releases = append(h.names, name), append(h.releases, release)
}

// release releases the names, last in first out, until one cannot be released.
func (h *heldNames) release() error {
	for n := len(h.names); n > 0; n-- {
		if err := h.releases[n-1](); err != nil {
			return err
		}
		h.names, h.releases = h.names[:n-1], h.releases[:n-1]
	}
	return nil
}

func (reservationAct) kind() string { return "reservation" }

// String implements act.
func (a reservationAct) String() string {
	if len(a.Reserved) == 0 {
		return "reservation of a device name"
	}
	names := make([]string, len(a.Reserved))
	for i, name := range a.Reserved {
		names[i] = string(name)
	}
	return "reservation of " + strings.Join(names, " and ")
}

func (a reservationAct) check(BuildID) error { return checkPath(a.LockDir) }

// removal returns nothing, because a reservation ends with its process.
func (reservationAct) removal([]act) string { return "" }

func (a reservationAct) undo(_ context.Context, u *undoer, _ *entry) error {
	if err := a.held.release(); err != nil {
		return err
	}
	if a.held.lost {
		return u.machine.Sweep(a.LockDir)
	}
	return nothingIf(len(a.Reserved) == 0, nil)
}

// undoInherited removes the remains of reservations: they have ended with their processes.
func (a reservationAct) undoInherited(_ context.Context, u *undoer, _ *entry) error {
	if a.LockDir != u.lockDir {
		u.report.Warn("the %s is left in %s: builds on this host reserve names in %s", a, a.LockDir, u.lockDir)
		return nil
	}
	return u.machine.Sweep(u.lockDir)
}
