package bake_test

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/packer-chroot/packer-plugin-chroot/bake"
	"github.com/packer-chroot/packer-plugin-chroot/bake/cloudtest"
	"github.com/packer-chroot/packer-plugin-chroot/chroot"
	"github.com/packer-chroot/packer-plugin-chroot/disk"
)

var errInjected = errors.New("injected")

// A fault is the failure of one call of one act, such as volume#1.
type fault struct {
	act string
	// effect means that the act takes effect although it returns an error.
	effect bool
	// err is returned. If it is nil, the act itself succeeds.
	err error
	// cancel, if not nil, is called.
	cancel context.CancelFunc
}

// fake is a cloud and a machine in one, so that it knows whether a step of the one is done
// before a step of the other. Acts take time, and resources change over time. A synctest
// bubble makes both exact.
type fake struct {
	t *testing.T

	mu     sync.Mutex
	counts map[string]int
	// acts lists every call that was made. A fault can apply to each.
	acts []string
	// events lists the effects, in order.
	events   []string
	faults   map[string]fault
	injected map[string]bool
	reports  []string
	// safeNow means that nothing can fail the build any more, and safe lists the acts since.
	safeNow bool
	// regainErr, if not nil, is the error of Regain: it lists the missing settings of a restored image.
	regainErr error
	// failingRestores is the number of images that fail when they are registered again.
	failingRestores int
	safe            map[string]bool

	// hook, if set, is called before and after every effect. Its error prevents the effect,
	// or the response.
	hook func(key string, after bool) error

	// refusals are errors that the next calls of an act are refused with, before a fault is injected.
	refusals map[string][]error
	// sharedName means that other builds may use the build's image name.
	sharedName bool
	// lag is the time for which reading calls do not show a new resource.
	lag time.Duration
	// taken names are refused by the cloud; reserved ones are held on the host.
	taken    []bake.DeviceName
	reserved map[bake.DeviceName]bool
	// stale are the reservations of processes that have ended.
	stale map[bake.DeviceName]bool
	// keepsPending means that the cloud does not delete a snapshot that is pending.
	keepsPending bool
	// volumeState, snapshotState and imageState, if set, are the final states.
	volumeState bake.VolumeState
	// unwanted means that the cloud creates a volume and reports that it is unusable.
	unwanted bool
	// hidesState means that the cloud does not report the state of a volume.
	hidesState    bool
	snapshotState bake.SnapshotState
	imageState    bake.ImageState
	snapshotTakes time.Duration
	detachTakes   time.Duration
	// attachedTo, if set, is the host to which every volume was moved by hand.
	attachedTo bake.HostID

	volumes   map[bake.VolumeID]*fakeVolume
	snapshots map[bake.SnapshotID]*fakeSnapshot
	images    map[bake.ImageID]*fakeImage
	// lingering are deregistered images that reading calls still show for a while.
	lingering map[bake.ImageID]*fakeImage
	mounted   map[string]bool
	// from are the mounted devices by path, and theirs are the devices that other processes have mounted.
	from, theirs map[string]string

	dirty bool
	// stopMachine stops the machine. stays means that mounts outlive it.
	stopMachine context.CancelCauseFunc
	stays       bool

	// publication holds the options for publishing. users means that the image is shared.
	publication bake.Publication
	users       bool
	copyTakes   time.Duration
	// hidesSnapshots means that the cloud does not list the snapshots of a pending copy.
	hidesSnapshots bool
	// stalled means that the snapshots of copies make no progress.
	stalled bool
	// shares means that a copy has the snapshots of further devices from its source.
	shares    bool
	copySpecs []bake.CopySpec
	published []bake.PublishSpec
	// before lists the resources that existed before the build.
	before []string
	// removed are those of before that a successful build removes.
	removed map[string]bool

	source    bake.Image
	host      bake.Host
	volSpec   bake.VolumeSpec
	snapSpec  bake.SnapshotSpec
	imageSpec bake.ImageSpec
	mountSpec chroot.MountSpec
	query     disk.Query
	choice    disk.Choice
	// rootWarning is the warning about the root.
	rootWarning string
	// fstab is the image's, mounts holds its file systems that are on the disk, and mountedBelow lists the
	// paths where something is mounted already.
	fstab        string
	mounts       []disk.FstabMount
	mountedBelow []string
	// wrongIDs are IDs that creating calls return in place of the right ones.
	wrongIDs map[string]string
	// tagged are the resources that were given tags after their creation.
	tagged []string
	// contexts is the state of the image's SELinux contexts.
	contexts chroot.SELinuxContexts

	// basis is the cloud's choice for direct builds, and direct the open disk.
	basis     bake.Basis
	startSpec bake.StartSpec
	direct    *fakeDisk
}

// me is the account that builds.
const me = "123456789012"

// returnedID returns the ID that a creating call returns.
func returnedID[ID ~string](w *fake, call string, id ID) ID {
	if wrong := w.wrongIDs[call]; wrong != "" && id != "" {
		return ID(wrong)
	}
	return id
}

// Tag records that a resource was tagged after its creation.
func (w *fake) Tag(ctx context.Context, id string, tags map[string]string) error {
	if len(tags) == 0 {
		return nil
	}
	return w.act(ctx, "tag", func() error {
		w.tagged = append(w.tagged, id)
		return nil
	})
}

type fakeVolume struct {
	build             bake.BuildID
	size              int64
	from              bake.SnapshotID
	zone              string
	born              time.Time
	attach            bake.AttachState
	attached, leaving time.Time
	name              bake.DeviceName
}

type fakeSnapshot struct {
	region      string
	volume      bake.VolumeID
	born        time.Time
	description string
	// build is the build's tag. open means that it is written block by block, and not complete.
	build bake.BuildID
	open  bool
	// takes is the duration of a copy; for other snapshots it is fake.snapshotTakes.
	takes time.Duration
}

type fakeImage struct {
	region, name string
	snapshots    []bake.SnapshotID
	// of is the source of a copy.
	of         bake.ImageID
	born, gone time.Time
	takes      time.Duration
	guarded    bool
	// fails means that the image ends in the state failed.
	fails bool
}

func newFake(t *testing.T) *fake {
	return &fake{
		from: map[string]string{},
		t:    t, counts: map[string]int{}, faults: map[string]fault{}, injected: map[string]bool{}, safe: map[string]bool{},
		lag: 120 * time.Millisecond, removed: map[string]bool{}, reserved: map[bake.DeviceName]bool{},
		snapshotTakes: 30 * time.Second, detachTakes: 300 * time.Millisecond,
		volumes: map[bake.VolumeID]*fakeVolume{}, snapshots: map[bake.SnapshotID]*fakeSnapshot{},
		images: map[bake.ImageID]*fakeImage{}, lingering: map[bake.ImageID]*fakeImage{}, copyTakes: time.Minute, mounted: map[string]bool{},
		host: bake.Host{ID: "i-1", Account: me, Region: "here", Zone: "here-a", Taken: []bake.DeviceName{"/dev/sda1"}},
		source: bake.Image{
			ID: "ami-source", Name: "base", State: bake.ImageAvailable,
			Root: bake.RootVolume{Snapshot: "snap-source", SizeGiB: 8, Type: "gp3", IOPS: 3000},
		},
	}
}

// act counts a call, injects its fault, takes time and has its effect.
func (w *fake) act(ctx context.Context, name string, effect func() error) error {
	w.mu.Lock()
	w.counts[name]++
	key := fmt.Sprintf("%s#%d", name, w.counts[name])
	w.acts = append(w.acts, key)
	w.safe[key] = w.safeNow
	f, faulty := w.faults[key]
	effect = w.hooked(key, effect)
	w.mu.Unlock()
	if err := ctx.Err(); err != nil {
		return err
	}
	time.Sleep(10 * time.Millisecond)

	w.mu.Lock()
	defer w.mu.Unlock()
	if refused := w.refusals[name]; len(refused) > 0 {
		w.refusals[name] = refused[1:]
		return refused[0]
	}
	if !faulty {
		return effect()
	}
	w.injected[key] = true
	if f.cancel != nil {
		f.cancel()
	}
	if f.effect {
		if err := effect(); err != nil && f.err == nil {
			return err
		}
	}
	return f.err
}

func (w *fake) happened(format string, args ...any) {
	w.events = append(w.events, fmt.Sprintf(format, args...))
}

// violation fails the test because an invariant is violated. No order of failures may violate one.
func (w *fake) violation(format string, args ...any) {
	w.t.Errorf("after %q: %s", w.events, fmt.Sprintf(format, args...))
}

// left lists the resources that did not exist before.
func (w *fake) left() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	var left []string
	for id, img := range w.images {
		name := original(string(id))
		if img.fails {
			name += " (failed)"
		}
		left = append(left, name)
	}
	for id := range w.snapshots {
		left = append(left, string(id))
	}
	for path := range w.mounted {
		left = append(left, path)
	}
	for id := range w.volumes {
		left = append(left, string(id))
	}
	for name := range w.reserved {
		left = append(left, string(name))
	}
	if w.direct != nil {
		left = append(left, w.direct.name)
	}
	slices.Sort(left)
	return left
}

// The cloud.

func (w *fake) Host(ctx context.Context) (bake.Host, error) {
	return w.host, w.act(ctx, "host", func() error { return nil })
}

func (w *fake) Source(ctx context.Context) (bake.Image, error) {
	return w.source, w.act(ctx, "source", func() error { return nil })
}

func (w *fake) CreateVolume(ctx context.Context, spec bake.VolumeSpec) (id bake.VolumeID, err error) {
	err = w.act(ctx, "volume", func() error {
		w.happened("volume")
		w.volSpec = spec
		for n := 1; id == "" || w.volumes[id] != nil; n++ {
			id = bake.VolumeID(fmt.Sprintf("vol-%d", n))
		}
		w.volumes[id] = &fakeVolume{
			build: spec.Build, size: spec.SizeGiB, from: spec.Snapshot, zone: spec.Zone, born: time.Now(), attach: bake.Detached,
		}
		return nil
	})
	id = returnedID(w, "volume", id)
	if err != nil {
		id = ""
	}
	if err == nil && w.unwanted {
		err = errInjected
	}
	return id, err
}

// at returns the current state of an attachment.
func (v *fakeVolume) at(now time.Time, takes time.Duration) bake.AttachState {
	switch {
	case v.attach == bake.Attaching && now.Sub(v.attached) > 500*time.Millisecond:
		v.attach = bake.Attached
	case v.attach == bake.Detaching && now.Sub(v.leaving) > takes:
		v.attach = bake.Detached
	}
	return v.attach
}

func (w *fake) Volume(ctx context.Context, id bake.VolumeID) (v bake.Volume, err error) {
	err = w.act(ctx, "look at volume", func() error {
		known, ok := w.volumes[id]
		if !ok || time.Since(known.born) < w.lag {
			return fmt.Errorf("%s: %w", id, bake.ErrNotFound)
		}
		v = bake.Volume{
			ID: id, State: bake.VolumeAvailable, Attach: known.at(time.Now(), w.detachTakes), Device: known.name,
			SizeGiB: known.size, Snapshot: known.from, Zone: known.zone, Created: known.born, Build: known.build,
		}
		v.Host = cmp.Or(w.attachedTo, w.host.ID)
		switch {
		case w.hidesState:
			v.State = ""
		case w.volumeState != "":
			v.State = w.volumeState
		case v.Attach != bake.Detached:
			v.State = bake.VolumeInUse
		case time.Since(known.born) < time.Second:
			v.State = bake.VolumeCreating
		}
		return nil
	})
	return v, err
}

func (w *fake) FindVolumes(ctx context.Context, build bake.BuildID) (ids []bake.VolumeID, err error) {
	err = w.act(ctx, "find volumes", func() error {
		for id, v := range w.volumes {
			if v.build == build && time.Since(v.born) >= w.lag {
				ids = append(ids, id)
			}
		}
		return nil
	})
	return ids, err
}

func (w *fake) DeleteVolume(ctx context.Context, id bake.VolumeID) error {
	return w.act(ctx, "~volume", func() error {
		v, ok := w.volumes[id]
		if !ok {
			return nil
		}
		if v.at(time.Now(), w.detachTakes) != bake.Detached {
			return fmt.Errorf("%s is in use", id)
		}
		w.happened("%s", w.home().event("~volume", string(id)))
		delete(w.volumes, id)
		return nil
	})
}

func (w *fake) VolumeType(name string) bake.VolumeType {
	needs := name == "io1" || name == "io2"
	return bake.VolumeType{Name: cmp.Or(name, "gp2"), TakesIOPS: needs || name == "gp3", NeedsIOPS: needs, TakesThroughput: name == "gp3"}
}

func (w *fake) DeviceNames() []bake.DeviceName {
	return []bake.DeviceName{"/dev/sda", "/dev/sdf", "/dev/sdg", "/dev/sdh"}
}

func (w *fake) Attach(ctx context.Context, id bake.VolumeID, host bake.HostID, name bake.DeviceName) error {
	return w.act(ctx, "attach", func() error {
		if slices.Contains(w.taken, name) {
			return fmt.Errorf("%s: %w", name, bake.ErrDeviceTaken)
		}
		if host != w.host.ID || !w.reserved[name] {
			w.violation("%s is attached to %s under %s, which is not reserved", id, host, name)
		}
		w.happened("attach %s", name)
		v := w.volumes[id]
		v.attach, v.attached, v.name = bake.Attaching, time.Now(), name
		return nil
	})
}

func (w *fake) Detach(ctx context.Context, id bake.VolumeID, _ bake.HostID) error {
	return w.act(ctx, "~attach", func() error {
		if len(w.mounted) > 0 {
			w.violation("%s is detached while %v is mounted", id, w.mounted)
		}
		v, ok := w.volumes[id]
		if !ok || v.at(time.Now(), w.detachTakes) == bake.Detached {
			return nil
		}
		w.happened("~attach")
		v.attach, v.leaving = bake.Detaching, time.Now()
		return nil
	})
}

func (w *fake) CreateSnapshot(ctx context.Context, spec bake.SnapshotSpec) (id bake.SnapshotID, err error) {
	err = w.act(ctx, "snapshot", func() error {
		if w.dirty || len(w.mounted) > 0 {
			w.violation("a snapshot is taken of a disk that is mounted (%v) or not flushed", w.mounted)
		}
		w.happened("snapshot")
		w.snapSpec = spec
		id = "snap-1"
		w.snapshots[id] = &fakeSnapshot{region: home, volume: spec.Volume, born: time.Now(), description: spec.Description}
		return nil
	})
	id = returnedID(w, "snapshot", id)
	if err != nil {
		id = ""
	}
	return id, err
}

func (w *fake) FindSnapshots(ctx context.Context, id bake.VolumeID) (ids []bake.SnapshotID, err error) {
	err = w.act(ctx, "find snapshots", func() error {
		for s, known := range w.snapshots {
			if known.volume == id && time.Since(known.born) >= w.lag {
				ids = append(ids, s)
			}
		}
		return nil
	})
	return ids, err
}

func (w *fake) Register(ctx context.Context, spec bake.ImageSpec) (id bake.ImageID, err error) {
	err = w.act(ctx, "image", func() error {
		if s := w.snapshots[spec.Snapshot]; s == nil || s.open || time.Since(s.born) < w.snapshotTakes {
			w.violation("an image is made of %s, which is not complete", spec.Snapshot)
		}
		if err := w.named(home, spec.Name); err != nil {
			return err
		}
		w.happened("image")
		w.imageSpec = spec
		id = "ami-1"
		snapshots := []bake.SnapshotID{spec.Snapshot}
		if w.source.Locked {
			snapshots = append(snapshots, furtherDevice) // as that of the copy, which can be used
		}
		w.images[id] = &fakeImage{region: home, name: spec.Name, snapshots: snapshots, born: time.Now(), takes: time.Second}
		return nil
	})
	id = returnedID(w, "image", id)
	if err != nil {
		id = ""
	}
	return id, err
}

// machine is the machine of the fake.
type machine struct{ *fake }

func (m machine) Guard(ctx context.Context) (guarded context.Context, stop func()) {
	ctx, cancel := context.WithCancelCause(ctx)
	m.stopMachine = cancel
	return ctx, func() { cancel(nil) }
}

func (m machine) Stay(context.Context) error {
	m.stays = true
	return nil
}

func (m machine) Close() error { return nil }

func (m machine) CheckMountPath(string) error {
	return m.act(context.Background(), "check mount path", func() error { return nil })
}

func (m machine) CheckMountParents(string) error { return nil }

func (m machine) CheckFile(string) error {
	return m.act(context.Background(), "check file", func() error { return nil })
}

func (m machine) CheckLockDir(string) error {
	return m.act(context.Background(), "check lock dir", func() error { return nil })
}

func (m machine) Reserve(_ string, names []bake.DeviceName) (name bake.DeviceName, release func() error, err error) {
	ctx := context.Background()
	err = m.act(ctx, "reserve", func() error {
		if len(names) == 0 {
			return errors.New("no free device name")
		}
		name = names[0]
		m.happened("reserve %s", name)
		m.reserved[name] = true
		delete(m.stale, name)
		return nil
	})
	switch {
	case errors.Is(err, chroot.ErrKeeperLost):
		m.stale = maps.Clone(m.reserved)
	case err != nil:
		delete(m.reserved, name) // the release of a local lock is never lost
	}
	return name, func() error {
		return m.act(ctx, "~reserve", func() error {
			m.happened("~reserve %s", name)
			delete(m.reserved, name)
			return nil
		})
	}, err
}

func (m machine) Disks() disk.Seen { return disk.Seen{"xvda": "1"} }

func (m machine) Find(ctx context.Context, q disk.Query) (bake.DevicePath, error) {
	path, id := bake.DevicePath("/dev/xvd"+strings.TrimPrefix(q.Device, "/dev/sd")), bake.VolumeID(q.Volume)
	m.query = q
	return path, m.act(ctx, "find", func() error {
		if m.volumes[id] == nil {
			return fmt.Errorf("no device for %s", id)
		}
		if m.volumes[id].at(time.Now(), m.detachTakes) != bake.Attached {
			m.violation("%s is looked for before it is attached", id)
		}
		m.happened("find")
		return nil
	})
}

func (m machine) CheckDevice(bake.DeviceName) error {
	return m.act(context.Background(), "check device", func() error { return nil })
}

func (m machine) Called(_ context.Context, _ bake.DeviceName, disk bake.DevicePath) bake.DevicePath {
	return disk
}

func (m machine) Settle(ctx context.Context, _ bake.DevicePath) error {
	return m.act(ctx, "settle", func() error { m.happened("settle"); return nil })
}

func (m machine) Root(ctx context.Context, device bake.DevicePath, choice disk.Choice) (disk.RootFS, error) {
	m.choice = choice
	return disk.RootFS{Device: string(device) + "1", Type: "ext4", Options: choice.Options, Warning: m.rootWarning}, m.act(ctx, "root", func() error { return nil })
}

func (m machine) GrowUnmounted(ctx context.Context, _ bake.DevicePath, root chroot.MountSpec) (bool, error) {
	return true, m.act(ctx, "grow unmounted", func() error {
		m.happened("grow %s", root.Device)
		m.dirty = true
		return nil
	})
}

func (m machine) GrowMounted(root chroot.MountSpec) error {
	return m.act(context.Background(), "grow mounted", func() error { m.happened("grow %s", root.Path); return nil })
}

func (m machine) FstabMounts(_ bake.DevicePath, fstab string) ([]disk.FstabMount, error) {
	return m.mounts, m.act(context.Background(), "fstab mounts", func() error { m.happened("fstab %q", fstab); return nil })
}

func (m machine) Shell(ctx context.Context, command string, out func(string)) error {
	out("said by " + command)
	return m.act(ctx, "shell", func() error {
		m.happened("shell %s", command)
		m.dirty = true
		return nil
	})
}

func (m machine) Mount(ctx context.Context, spec chroot.MountSpec) (bake.Mounted, error) {
	err := m.act(ctx, "mount", func() error {
		m.happened("mount")
		m.mountSpec = spec
		m.mounted[spec.Path], m.dirty = true, true
		m.from[spec.Path] = spec.Device
		return nil
	})
	if err != nil {
		return nil, err
	}
	root, err := cloudtest.Machine().Mount(ctx, spec)
	return &fakeRoot{m, root}, err
}

func (m machine) Leave(ctx context.Context, path string) error {
	return m.act(ctx, "~mount", func() error {
		if !m.mounted[path] {
			return nil
		}
		m.happened("~mount")
		delete(m.mounted, path)
		delete(m.from, path)
		return nil
	})
}

func (m machine) Flush(bake.DevicePath) error {
	return m.act(context.Background(), "flush", func() error {
		if len(m.mounted) > 0 {
			m.violation("the disk is flushed while %v is mounted", m.mounted)
		}
		m.happened("flush")
		m.dirty = false
		return nil
	})
}

// fakeRoot is a mounted root. The methods of Mounted without an effect that tests check do
// nothing.
type fakeRoot struct {
	machine
	bake.Mounted
}

func (r *fakeRoot) MountBelow(ctx context.Context, mount chroot.Submount) error {
	return r.act(ctx, "mount below", func() error {
		if mount.Type == "unknown" {
			return fmt.Errorf("%s: %w", mount.Type, chroot.ErrNoFileSystem)
		}
		if mount.Type == "torn" {
			return errors.New("structure needs cleaning")
		}
		r.happened("mount %s", mount.Target)
		return nil
	})
}

func (r *fakeRoot) SELinuxContexts(_ context.Context, search bool) (chroot.SELinuxContexts, error) {
	contexts := r.contexts
	if !search {
		contexts.Unlabelled = ""
	}
	return contexts, nil
}

func (r *fakeRoot) IsMounted(ctx context.Context, path string) (bool, error) {
	return slices.Contains(r.mountedBelow, path), r.act(ctx, "is mounted", func() error { return nil })
}

func (r *fakeRoot) CopyIn(ctx context.Context, path string) error {
	return r.act(ctx, "copy", func() error { r.happened("copy %s", path); return nil })
}

func (r *fakeRoot) BlockServices(ctx context.Context) error {
	return r.act(ctx, "block services", func() error { r.happened("block services"); return nil })
}

func (r *fakeRoot) RemoveUploads(ctx context.Context) error {
	return r.act(ctx, "remove uploads", func() error { r.happened("remove uploads"); return nil })
}

func (r *fakeRoot) PutBack(ctx context.Context) error {
	return r.act(ctx, "put back", func() error { r.happened("put back"); return nil })
}

func (r *fakeRoot) Download(_ context.Context, path string, to io.Writer) error {
	if r.fstab == "" {
		return fmt.Errorf("cannot download %s: %w", path, os.ErrNotExist)
	}
	_, err := io.WriteString(to, r.fstab)
	return err
}

// The reporter.

func (w *fake) Step(format string, args ...any)   { w.report("step: "+format, args) }
func (w *fake) Detail(format string, args ...any) { w.report("detail: "+format, args) }
func (w *fake) Warn(format string, args ...any)   { w.report("warn: "+format, args) }

func (w *fake) report(format string, args []any) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.reports = append(w.reports, fmt.Sprintf(format, args...))
}

// plan returns a plan that uses every part of a build.
func (w *fake) plan() bake.Plan {
	return bake.Plan{
		Build:     "build-1",
		ImageName: "golden",
		MountPath: func(string) (string, error) {
			return "/mnt/root", w.act(context.Background(), "render mount path", func() error { return nil })
		},
		MountOptions: []string{"noatime"},
		Mounts:       []chroot.Submount{{Type: "proc", Source: "proc", Target: "/proc"}, {Type: "bind", Source: "/dev", Target: "/dev"}},
		CopyFiles:    []string{"/etc/resolv.conf"},
		PreMount: func(disk bake.Disk) ([]string, error) {
			return []string{"mkfs " + string(disk.Name)}, w.act(context.Background(), "render pre-mount", func() error { return nil })
		},
		PostMount: func(_ bake.Disk, path string) ([]string, error) {
			return []string{"ls " + path}, w.act(context.Background(), "render post-mount", func() error { return nil })
		},
		Labels: func(facts bake.Facts) (bake.Labels, error) {
			labels := bake.Labels{
				ImageDescription: "image made from " + string(facts.Source.ID), SnapshotDescription: "made from " + string(facts.Source.ID),
				ImageTags: map[string]string{"of": "image"}, SnapshotTags: map[string]string{"of": "snapshot"}, VolumeTags: map[string]string{"of": "volume"},
			}
			return labels, w.act(context.Background(), "labels", func() error { return nil })
		},
		Provision: func(ctx context.Context, _ bake.Workplace) error {
			return w.act(ctx, "provision", func() error { w.happened("provision"); return nil })
		},
		Pause: func(ctx context.Context, step string) error {
			return w.act(ctx, "pause", func() error { w.safeNow = step == "publish image"; return nil })
		},
	}
}
