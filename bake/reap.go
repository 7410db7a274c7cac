package bake

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/packer-chroot/packer-plugin-chroot/chroot"
	"github.com/packer-chroot/packer-plugin-chroot/disk"
	"github.com/packer-chroot/packer-plugin-chroot/retry"
	"github.com/packer-chroot/packer-plugin-chroot/undo"
)

// Reaping says whose builds to clean up after, and how.
type Reaping struct {
	// StateDir holds the journals.
	StateDir string
	// LockDir holds the reservations of device names; empty means DefaultLockDir.
	LockDir string
	// Program and Endpoint are as in Plan: the journals of other programs, and of
	// clouds elsewhere, are left.
	Program  string
	Endpoint string
	// Waits says how to wait; what is zero is as in DefaultWaits.
	Waits Waits
	// DryRun tells what would be undone, and changes nothing.
	DryRun bool
}

// Fate is what became of what a build had left.
type Fate string

// The fates of what builds leave.
const (
	// Removed: nothing is left.
	Removed Fate = "removed"
	// Due: it would be undone, were this not a dry run.
	Due Fate = "due"
	// Stuck: not everything could be undone. It is tried again next time.
	Stuck Fate = "stuck"
	// Living: the build lives, or somebody else is cleaning up after it.
	Living Fate = "living"
	// Elsewhere: it is of another program, account, region, cloud or host.
	Elsewhere Fate = "elsewhere"
	// Forgotten: its journal was removed, and nothing was undone.
	Forgotten Fate = "forgotten"
	// Unreadable: its journal is damaged or of a newer version, and is never acted
	// on.
	Unreadable Fate = "unreadable"
)

// Remains are what one build left, by its journal.
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
	// Undone names what was undone, in this order, and Pending what is still to be.
	Undone  []string `json:"undone,omitempty"`
	Pending []string `json:"pending,omitempty"`
	// Problem says why, of what is stuck, elsewhere or unreadable.
	Problem string `json:"problem,omitempty"`
}

// Reap cleans up after the builds of this host that were killed, as these would
// have done had they failed: the mounts, the attachment, the volume, and what was
// begun of snapshots and images. Builds that live are not touched, and nothing that
// is not in a journal. It ends with ctx; what it had no time for is left for the
// next one.
func Reap(ctx context.Context, cloud Cloud, machine Machine, report Reporter, r Reaping) ([]Remains, error) {
	paths, err := undo.Journals(r.StateDir)
	if err != nil || len(paths) == 0 {
		return nil, cannotReap(r.StateDir, err)
	}
	host, err := cloud.Host(ctx)
	if err != nil {
		return nil, cannotReap(r.StateDir, err)
	}
	return reaper{cloud, machine, report, r, host}.reap(ctx, paths), nil
}

// Running lists the builds of a directory's journals that live, and reports whether there
// are others. It asks no cloud.
func Running(stateDir string) (living []Remains, others bool, err error) {
	paths, err := undo.Journals(stateDir)
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
	return living, others, cannotReap(stateDir, err)
}

// Forget removes the journal of a build that does not live, and undoes nothing. It
// names what the journal holds in Remains.Pending. It asks no cloud.
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
	if err != nil { // what cannot be read can be forgotten all the same
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
		found, err := r.look(ctx, path)
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

// look finds out whose journal it is, and cleans up if that is wanted.
func (r reaper) look(ctx context.Context, path string) (Remains, error) {
	h, err := undo.Peek(path)
	found := remainsOf(path, h)
	if err == nil || errors.Is(err, undo.ErrNewer) {
		if err := r.concerns(h); err != nil {
			return elsewhere(found, err)
		}
	} // else it may be about to be begun: whoever can lock it knows better
	if r.DryRun {
		return r.inspect(path, found)
	}
	j, err := undo.Inherit(path)
	if err != nil {
		return unreaped(found, err)
	}
	defer j.Close() // what cannot be removed is found, and is empty, next time
	found = remainsOf(path, j.Header())
	if err := r.concerns(j.Header()); err != nil {
		found.Fate = Elsewhere
		return found, err
	}
	return r.clean(ctx, j, found)
}

// elsewhere is the fate of a journal that does not concern this reaper. If its build
// lives nothing is left of it, wherever it is.
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

// concerns fails when a build was another program's, or at work elsewhere.
func (r reaper) concerns(h undo.Header) error {
	type is struct{ what, its, mine string }
	cloud := is{"endpoint", h.Endpoint, r.Endpoint}
	if h.Cloud != "" && r.host.Cloud != "" {
		cloud = is{"cloud", h.Cloud, r.host.Cloud}
	}
	for _, is := range []is{
		{"program", h.Program, r.Program},
		{"account", h.Account, r.host.Account},
		{"region", h.Region, r.host.Region},
		cloud,
		{"host", h.Host, string(r.host.ID)},
	} {
		if is.its != is.mine {
			return fmt.Errorf("its %s is %q, and here it is %q", is.what, is.its, is.mine)
		}
	}
	return nil
}

// unreaped says why a journal could not be had.
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

// inspect tells what would be undone.
func (r reaper) inspect(path string, found Remains) (Remains, error) {
	_, pending, err := undo.Inspect(path)
	if err != nil {
		return unreaped(found, err)
	}
	found.Fate = Due
	for _, p := range slices.Backward(pending) {
		a, err := readAct(found.Build, p)
		if err != nil {
			found.Fate = Stuck
			return found, err
		}
		found.Pending = append(found.Pending, a.String())
	}
	return found, nil
}

// clean undoes what is outstanding, in the order in which the build would have.
func (r reaper) clean(ctx context.Context, j *undo.Journal, found Remains) (Remains, error) {
	b := newBuild(r.cloud, r.machine, Plan{Build: found.Build, Waits: r.Waits, LockDir: r.LockDir}, quietly{r.report, found.Build})
	b.journal, b.reaping, b.account, b.since = j, ctx, r.host.Account, j.Begun()
	if err := b.inherit(j); err != nil {
		found.Fate = Stuck
		return found, err
	}
	if j.Ended() {
		r.report.Detail("cleaning up after build %s, which failed to clean up", found.Build)
	} else {
		r.report.Detail("cleaning up after the killed build %s", found.Build)
	}
	undone, err := b.undoAll(ctx)
	found.Undone, found.Fate = undone, Removed
	for _, stack := range b.stacks() {
		found.Pending = append(found.Pending, stack.Pending()...)
	}
	if len(found.Pending) > 0 {
		found.Fate = Stuck
	}
	return found, err
}

// inherit arms what is outstanding of another build.
func (b *build) inherit(j *undo.Journal) error {
	for _, p := range j.Acts() {
		if a, err := readAct(b.plan.Build, p); err == nil {
			a.Over = !slices.ContainsFunc(j.Pending(), func(q undo.Pending) bool { return q.Seq == p.Seq })
			b.past = append(b.past, a)
		}
	}
	for _, p := range j.Pending() {
		a, err := readAct(b.plan.Build, p)
		if err != nil {
			return err
		}
		stack, note := b.stackCalled(p.Stack), j.Note(p)
		if stack == b.replaced && !j.Kept(b.products.Name()) {
			// The build did not succeed: the replaced image comes back, and needs its
			// snapshots.
			if err := note.Over(); err != nil {
				return err
			}
			continue
		}
		if !j.Ended() {
			a.Asked = p.At
		}
		b.hold(stack, a, note)
	}
	return nil
}

// patience is how long the effect of an act is looked for that was not answered. A
// request of a killed build may still be under way.
func (b *build) patience(a act) time.Duration {
	if a.Answered || a.Asked.IsZero() {
		return b.waits.Lost
	}
	limit := max(b.waits.Lost, b.waits.InFlight-b.sinceLast(a.Asked))
	if limit > b.waits.Lost {
		b.report.Detail("looking up to %s for the %s: the request for it may still be under way", limit.Round(time.Second), a)
	}
	return limit
}

// sinceLast returns how long ago, at least, a killed build made the last attempt of a call
// that it began at a time. A call is made again for the longest if it is throttled; a limit
// that the user has set is the limit of the waits, too.
func (b *build) sinceLast(begun time.Time) time.Duration {
	return max(0, time.Since(begun)-max(retry.ThrottledFor, b.waits.Volume.Patience))
}

// stackCalled finds a stack by the name that it has in journals.
func (b *build) stackCalled(name string) *undo.Stack {
	if region, ok := strings.CutPrefix(name, inRegion); ok {
		return b.productsIn(region)
	}
	switch name {
	case b.products.Name():
		return b.products
	case b.replaced.Name():
		return b.replaced
	}
	return b.scaffold
}

// readAct reads an act of a journal. What it does not know, or what no build would
// have written, is an error.
func readAct(build BuildID, p undo.Pending) (a act, err error) {
	dec := json.NewDecoder(bytes.NewReader(p.Act))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&a); err != nil {
		return a, fmt.Errorf("act %d of the journal: %w", p.Seq, err)
	}
	if err := a.check(build); err != nil {
		return a, fmt.Errorf("act %d of the journal, a %s: %w", p.Seq, a.Kind, err)
	}
	return a, nil
}

// blockDevice is the kernel's name of a block device.
var blockDevice = regexp.MustCompile(`^/dev/[A-Za-z0-9-]+$`)

// check holds what an act of a build says against what it can say: on this host it is
// going to be undone with root's rights, and in the cloud a thing that has no name, and
// is looked for by nothing, could be anybody's.
func (a act) check(build BuildID) error {
	var named bool
	switch a.Kind {
	case actReservation:
		return checkPath(a.LockDir)
	case actMount:
		if a.Root == nil {
			return errors.New("it does not say of what")
		}
		return checkRoot(*a.Root)
	case actReplaced:
		if a.Image == "" || a.Record == nil || a.Record.Image != a.Image {
			return errors.New("it does not say how the image was")
		}
		return nil
	case actVolume:
		named = a.Build == build
	case actAttachment:
		named = a.Volume != "" && a.Host != ""
	case actSnapshot:
		named = a.Volume != ""
	case actImage, actOldSnapshot:
		named = a.Snapshot != ""
	case actFurther:
		named = a.Image != "" && a.Snapshot != ""
	case actCopy:
		named = a.Source != "" && a.Name != ""
	default:
		return errors.New("this program does not know it")
	}
	if !named {
		return errors.New("it does not say what it is of")
	}
	return nil
}

func checkRoot(r chroot.RootRecord) error {
	if r.Device != "" && !blockDevice.MatchString(r.Device) {
		return fmt.Errorf("%q is not the name of a block device", r.Device)
	}
	for _, path := range r.Made {
		if path != r.Path && !strings.HasPrefix(r.Path, path+"/") {
			return fmt.Errorf("%q was not made for %q", path, r.Path)
		}
		if err := checkPath(path); err != nil {
			return err
		}
	}
	if r.Group != "" {
		if err := checkPath(r.Group); err != nil {
			return err
		}
	}
	return checkPath(r.Path)
}

func checkPath(path string) error {
	if !filepath.IsAbs(path) || filepath.Clean(path) != path || path == "/" {
		return fmt.Errorf("%q is not the absolute path of a file or directory", path)
	}
	return nil
}

// undoAsHeir undoes what is undone otherwise when its build is dead: what that knew
// beyond its journal is lost, and what the journal says is not taken for granted. It
// answers whether nothing else is to be done.
func (b *build) undoAsHeir(ctx context.Context, a act) (done bool, err error) {
	switch a.Kind {
	case actReservation:
		if a.LockDir != b.plan.LockDir {
			b.report.Warn("the %s is left in %s: builds on this host reserve names in %s", a, a.LockDir, b.plan.LockDir)
			return true, nil
		}
		return true, b.machine.Sweep(b.plan.LockDir)
	case actMount:
		return true, b.reclaim(ctx, a)
	case actAttachment:
		_, there, err := b.attachedHere(ctx, a)
		return !there, nothingIf(!there, err)
	}
	return false, nil
}

// findAgain is how long the kernel may take to show a volume that was attached before.
const findAgain = 20 * time.Second

// reclaim leaves the root of a dead build, if it is mounted from the disk of the
// build's volume, which is found again.
func (b *build) reclaim(ctx context.Context, a act) error {
	v, there, err := b.attachedHere(ctx, a)
	if err != nil {
		return err
	}
	claim := chroot.Claim{Since: b.since}
	var lacks error
	if there {
		finding, stop := context.WithTimeout(ctx, min(findAgain, b.waits.Device))
		defer stop()
		var found DevicePath
		found, lacks = b.machine.Find(finding, disk.Query{
			Volume: string(v.ID), Device: string(v.Device), Bytes: v.SizeGiB << 30, Before: a.Before,
		})
		claim.Disk = string(found)
	}
	left, err := b.machine.Reclaim(ctx, *a.Root, claim)
	for _, what := range left {
		b.report.Warn("%s", what)
	}
	if errors.Is(err, chroot.ErrNotClaimed) && !there {
		b.report.Warn("%v", err) // a mount whose disk was taken away keeps nothing from being removed
		return nil
	}
	return errors.Join(err, ifBoth(err, lacks))
}

// ifBoth returns the second error, if there is a first one.
func ifBoth(first, second error) error {
	if first == nil {
		return nil
	}
	return second
}

// attachedHere returns the act's volume, which must be the build's, and reports whether
// it is attached to the host that it was attached to.
func (b *build) attachedHere(ctx context.Context, a act) (v Volume, there bool, err error) {
	if err := b.ownVolume(ctx, b.creation(a.Volume), a.Volume); err != nil {
		return Volume{}, false, ignoreGone(err)
	}
	v, err = b.cloud.Volume(ctx, a.Volume)
	switch {
	case errors.Is(err, ErrNotFound):
		return v, false, nil
	case err != nil:
		return v, false, err
	case v.Attach == Detached:
		return v, a.Kind == actAttachment && !a.Answered, nil // it may come about yet
	case v.Host != a.Host:
		return v, false, fmt.Errorf("%s is attached to %s by now, not to %s: it is left alone", a.Volume, v.Host, a.Host)
	}
	return v, true, nil
}

// quietly tells of another build's undoing without taking it for a step of one's
// own.
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
