package bake

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/packer-chroot/packer-plugin-chroot/polling"
	"github.com/packer-chroot/packer-plugin-chroot/undo"
)

// Reaping holds the options of Reap. A flag of the command reap sets each field with a flag tag.
type Reaping struct {
	// StateDir holds the journals.
	StateDir string `flag:"state-dir DIR" usage:"the directory of the builds' journals"`
	// LockDir holds the reservations of device names; empty means DefaultLockDir.
	LockDir string
	// Program and Endpoint are as in Plan: the journals of other programs, and of
	// clouds elsewhere, are left.
	Program  string
	Endpoint string
	// Waits holds the intervals and limits of waits; zero fields are as in DefaultWaits.
	Waits Waits
	// DryRun lists the acts that would be undone, and changes nothing.
	DryRun bool `flag:"dry-run" usage:"print what would be undone, and change nothing"`
}

// journals returns the paths of the journals.
func (r Reaping) journals() ([]string, error) {
	paths, err := undo.Journals(r.StateDir)
	return paths, cannotReap(r.StateDir, err)
}

// Fate is the outcome for the remains of a build.
type Fate string

// The fates of the remains of builds.
const (
	// Removed: nothing is left.
	Removed Fate = "removed"
	// Due: it would be undone, were this not a dry run.
	Due Fate = "due"
	// Stuck: not everything could be undone. It is tried again next time.
	Stuck Fate = "stuck"
	// Living: the build is running, or another process is cleaning up after it.
	Living Fate = "living"
	// Elsewhere: the build is of another program, account, region, cloud or host.
	Elsewhere Fate = "elsewhere"
	// Forgotten: its journal was removed, and nothing was undone.
	Forgotten Fate = "forgotten"
	// Unreadable: its journal is damaged or of a newer version, and is never acted
	// on.
	Unreadable Fate = "unreadable"
)

// Remains are the remains of one build, by its journal.
type Remains struct {
	Build    BuildID   `json:"build"`
	Program  string    `json:"program,omitempty"`
	Account  string    `json:"account,omitempty"`
	Region   string    `json:"region,omitempty"`
	Endpoint string    `json:"endpoint,omitempty"`
	Host     HostID    `json:"host,omitempty"`
	Start    time.Time `json:"start,omitzero"`
	// Journal is the file.
	Journal string `json:"journal"`
	Fate    Fate   `json:"fate"`
	// Undone names the acts that were undone, in this order, and Pending those that are
	// still to be undone.
	Undone  []string `json:"undone,omitempty"`
	Pending []string `json:"pending,omitempty"`
	// Problem is the reason, if the remains are stuck, elsewhere or unreadable.
	Problem string `json:"problem,omitempty"`
}

// Reap cleans up after the builds of this host that were killed, as these would have done
// if they had failed: the mounts, the attachment, the volume, and snapshots and images that
// were begun. It touches neither builds that are running nor anything that is not in a
// journal. It ends with ctx; the rest is left for the next one.
func Reap(ctx context.Context, cloud Cloud, machine Machine, report Reporter, r Reaping) ([]Remains, error) {
	paths, err := r.journals()
	if err != nil || len(paths) == 0 {
		return nil, err
	}
	host, err := hostOf(ctx, cloud, paths)
	if err != nil {
		return nil, cannotReap(r.StateDir, err)
	}
	return reaper{cloud, machine, report, r, host}.reap(ctx, paths), nil
}

// hostOf returns the host of the builds of some journals. If all were direct builds, it need not be
// a virtual machine. If some were, the journals of the others are left if it is none.
func hostOf(ctx context.Context, cloud Cloud, paths []string) (Host, error) {
	direct := 0
	for _, path := range paths {
		if h, err := undo.Peek(path); err == nil && isDirect(h) {
			direct++
		}
	}
	store := blockStore(cloud)
	if store == nil || direct == 0 {
		return cloud.Host(ctx)
	}
	if direct < len(paths) {
		if host, err := cloud.Host(ctx); err == nil {
			return host, nil
		}
	}
	return place(ctx, store)
}

// Running returns the running builds, and reports whether there are journals of others. It makes no
// request.
func (r Reaping) Running() (living []Remains, others bool, err error) {
	paths, err := r.journals()
	for _, path := range paths {
		if alive, err := undo.Alive(path); err != nil || !alive {
			others = others || !errors.Is(err, os.ErrNotExist)
			continue
		}
		h, _ := undo.Peek(path)
		found := remainsOf(path, h)
		found.Fate = Living
		living = append(living, found)
	}
	return living, others, err
}

// Forget removes the journal of a build that is not running, and undoes nothing. It names
// the acts of the journal in Remains.Pending. It makes no request.
func Forget(stateDir, build string, dryRun bool) (Remains, error) {
	path, err := undo.Find(stateDir, build)
	if err != nil {
		return Remains{}, fmt.Errorf("cannot forget build %s: %w", build, err)
	}
	h, _, _ := undo.Inspect(path)
	h.Build = build
	found, err := reaper{}.inspect(path, remainsOf(path, h))
	if found.Fate == Living {
		return found, fmt.Errorf("build %s is running, or is being cleaned up after: its journal stays", build)
	}
	if err != nil { // a journal that cannot be read can be forgotten all the same
		found.Problem = err.Error()
	}
	if dryRun {
		return found, nil
	}
	if err := undo.Forget(path); err != nil {
		return found, fmt.Errorf("cannot forget build %s: %w", build, err)
	}
	found.Fate = Forgotten
	return found, nil
}

func cannotReap(dir string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("cannot look for builds that were killed, in %s: %w", dir, err)
}

// reaper cleans up after killed builds.
type reaper struct {
	cloud   Cloud
	machine Machine
	report  Reporter
	Reaping
	host Host
}

func (r reaper) reap(ctx context.Context, paths []string) []Remains {
	var all []Remains
	for _, path := range paths {
		if ctx.Err() != nil {
			break
		}
		found, err := r.reapOne(ctx, path)
		if errors.Is(err, os.ErrNotExist) {
			continue // its build has ended meanwhile
		}
		if err != nil {
			found.Problem = err.Error()
		}
		all = append(all, found)
	}
	return all
}

// reapOne cleans up after the build of a journal, if it concerns this reaper.
func (r reaper) reapOne(ctx context.Context, path string) (Remains, error) {
	h, err := undo.Peek(path)
	found := remainsOf(path, h)
	if err == nil || errors.Is(err, undo.ErrNewer) {
		if err := r.concerns(h); err != nil {
			return elsewhere(found, err)
		}
	} // else its build may be about to begin it: a process that can lock it knows better
	if r.DryRun {
		return r.inspect(path, found)
	}
	l, err := undo.Resume[recorded](path)
	if err != nil {
		return unreaped(found, err)
	}
	defer l.Close() // a journal that cannot be removed is found empty next time
	found = remainsOf(path, l.Header())
	if err := r.concerns(l.Header()); err != nil {
		found.Fate = Elsewhere
		return found, err
	}
	return r.clean(ctx, l, found)
}

// elsewhere returns the fate of a journal that does not concern this reaper. The build may
// be running.
func elsewhere(found Remains, why error) (Remains, error) {
	alive, err := undo.Alive(found.Journal)
	switch {
	case errors.Is(err, os.ErrNotExist):
		return found, err
	case alive:
		found.Fate = Living
		return found, nil
	}
	found.Fate = Elsewhere
	return found, why
}

func remainsOf(path string, h undo.Header) Remains {
	if h.Build == "" {
		h.Build = strings.TrimSuffix(filepath.Base(path), filepath.Ext(path))
	}
	return Remains{
		Build: BuildID(h.Build), Program: h.Program, Account: h.Account, Region: h.Region, Endpoint: h.Endpoint,
		Host: HostID(h.Host), Start: h.Start, Journal: path,
	}
}

// concerns returns an error if a build was of another program, or in another place.
func (r reaper) concerns(h undo.Header) error {
	type is struct{ what, its, mine string }
	host := string(r.host.ID)
	if isDirect(h) {
		host = string(machineID())
	}
	cloud := is{"endpoint", h.Endpoint, r.Endpoint}
	if h.Cloud != "" && r.host.Cloud != "" {
		cloud = is{"cloud", h.Cloud, r.host.Cloud}
	}
	for _, is := range []is{
		{"program", h.Program, r.Program},
		{"account", h.Account, r.host.Account},
		{"region", h.Region, r.host.Region},
		cloud,
		{"host", h.Host, host},
	} {
		if is.its != is.mine {
			return fmt.Errorf("its %s is %q, and here it is %q", is.what, is.its, is.mine)
		}
	}
	return nil
}

// unreaped returns the fate of a journal that could not be resumed.
func unreaped(found Remains, err error) (Remains, error) {
	switch {
	case errors.Is(err, undo.ErrAlive):
		found.Fate = Living
		return found, nil
	case errors.Is(err, undo.ErrTorn), errors.Is(err, undo.ErrNewer):
		found.Fate = Unreadable
	default:
		found.Fate = Stuck
	}
	return found, err
}

// inspect lists the acts that would be undone.
func (r reaper) inspect(path string, found Remains) (Remains, error) {
	_, pending, err := undo.Inspect(path)
	if err != nil {
		return unreaped(found, err)
	}
	found.Fate = Due
	for _, p := range slices.Backward(pending) {
		a, err := readAct(found.Build, p, false)
		if err != nil {
			found.Fate = Stuck
			return found, err
		}
		found.Pending = append(found.Pending, a.String())
	}
	return found, nil
}

// clean undoes the outstanding acts of a journal, in the order in which the build would
// have.
func (r reaper) clean(ctx context.Context, l *undo.Ledger[recorded], found Remains) (Remains, error) {
	u := r.undoer(l, found.Build)
	if err := u.resume(); err != nil {
		found.Fate = Stuck
		return found, err
	}
	if l.Ended() {
		r.report.Detail("cleaning up after build %s, which failed to clean up", found.Build)
	} else {
		r.report.Detail("cleaning up after the killed build %s", found.Build)
	}
	undone, err := u.undoAll(ctx)
	found.Undone, found.Fate = undone, Removed
	found.Pending = l.Names(u.groups()...)
	if len(found.Pending) > 0 {
		found.Fate = Stuck
	}
	return found, err
}

// undoer returns the undoer of a build whose process has ended.
func (r reaper) undoer(l *undo.Ledger[recorded], build BuildID) *undoer {
	waits := r.Waits.orDefault()
	report := quietly{r.report, build}
	return &undoer{
		cloud: settled(r.cloud, waits.Settling, report), machine: withEvents(r.machine), waits: waits, report: report, ledger: l,
		build: build, account: r.host.Account, lockDir: cmp.Or(r.LockDir, DefaultLockDir),
		since: l.Begun(), repeated: longestRepetition(waits), polling: polling.NewStore(r.StateDir, r.Program+" "+r.Endpoint),
	}
}

// resume arms the outstanding acts of a journal. If the build did not succeed, its replaced
// images are restored, and need their snapshots.
func (u *undoer) resume() error {
	killed := !u.ledger.Ended()
	err := u.ledger.Load(
		func(r undo.Recorded) (recorded, error) { return readAct(u.build, r, killed) },
		func(ctx context.Context, e *entry) error { return e.Act().undoInherited(ctx, u, e) },
	)
	if err != nil {
		return err
	}
	for _, e := range slices.Backward(u.ledger.Outstanding()) {
		if isRegion(e.Group()) {
			u.addRegion(e.Group())
		}
	}
	if u.ledger.Kept(products) {
		return nil
	}
	return u.ledger.Drop(replacedSnapshots)
}

// quietly reports the undoing of another build as details, without steps.
type quietly struct {
	to    Reporter
	build BuildID
}

// Step implements Reporter.
func (q quietly) Step(format string, args ...any) { q.Detail(format, args...) }

// Detail implements Reporter.
func (q quietly) Detail(format string, args ...any) {
	q.to.Detail("build %s: %s", q.build, fmt.Sprintf(format, args...))
}

// Warn implements Reporter.
func (q quietly) Warn(format string, args ...any) {
	q.to.Warn("build %s: %s", q.build, fmt.Sprintf(format, args...))
}
