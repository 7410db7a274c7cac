package bake

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/packer-chroot/packer-plugin-chroot/event"
)

// A step is a part of a build.
type step struct {
	// name names the step in events, in errors and for Plan.Pause.
	name string
	// heading returns the line that announces the step; nil if the work announces itself.
	heading func() string
	// when reports whether the build has the step; nil means that it always has.
	when func() bool
	run  func(context.Context) error
	// pauses means that Plan.Pause is called after the step.
	pauses bool
	// aside means that the next step begins before this one has ended. Its failure does not
	// end the build: whatever it could not do is tried again at the end.
	aside bool
	// users means that the step's time is that of the user's provisioners or commands.
	users bool
}

// steps returns the steps of a build in their order, with the values that each of them
// needs and returns.
func (b *build) steps(result *Result) []step {
	var (
		from     preflight
		disk     Disk
		source   rootSource
		mounted  mountedRoot
		snapshot SnapshotID
		image    Product
	)
	return []step{
		{name: "preflight", pauses: true, heading: b.preflightHeading,
			run: func(ctx context.Context) (err error) {
				from, err = b.begin(ctx)
				result.Source = from.Source
				return err
			}},
		{name: "copy source image", pauses: true, when: func() bool { return copiesSource(from) },
			heading: func() string { return sourceCopyHeading(from) },
			run:     func(ctx context.Context) (err error) { from, err = b.copySource(ctx, from); return err }},
		{name: "create volume", pauses: true, heading: func() string { return b.rootDisk(from).creating() },
			run: func(ctx context.Context) error { return b.rootDisk(from).create(ctx) }},
		{name: "attach volume", pauses: true, heading: func() string { return b.disk.attaching() },
			run: func(ctx context.Context) error { return b.disk.attach(ctx) }},
		{name: "prepare device", pauses: true, heading: func() string { return b.disk.finding() },
			run: func(ctx context.Context) (err error) { disk, err = b.prepare(ctx, b.disk); return err }},
		{name: "find root",
			run: func(ctx context.Context) (err error) { source, err = b.findRoot(ctx, disk); return err }},
		{name: "mount root", pauses: true, heading: func() string { return fmt.Sprintf("Mounting %s on %s", source.Device, source.Path) },
			run: func(ctx context.Context) (err error) { mounted, err = b.mount(ctx, b.disk, disk, source); return err }},
		{name: "prepare root", pauses: true,
			run: func(ctx context.Context) error { return b.prepareRoot(ctx, mounted) }},
		{name: "provision", users: true, pauses: true, heading: func() string { return "Provisioning in " + mounted.Path() },
			run: func(ctx context.Context) error { return b.provision(ctx, from, mounted) }},
		{name: "finish root", pauses: true,
			run: func(ctx context.Context) error { return b.finish(ctx, mounted) }},
		{name: "unmount root", pauses: true, heading: func() string { return "Unmounting " + mounted.Path() },
			run: func(ctx context.Context) error { return b.leave(ctx, mounted) }},
		{name: "create snapshot", pauses: true, heading: func() string { return b.disk.taking() },
			run: func(ctx context.Context) error { return b.disk.take(ctx) }},
		{name: "remove volume", aside: true, heading: func() string { return b.disk.removing() },
			run: func(ctx context.Context) error { return b.disk.remove(ctx) }},
		{name: "complete snapshot",
			run: func(ctx context.Context) (err error) { snapshot, err = b.disk.taken(ctx); return err }},
		{name: "replace images", when: func() bool { return !from.publication.Passing },
			run: func(ctx context.Context) error { return b.replaceHome(ctx, from) }},
		{name: "register image", pauses: true, heading: func() string { return fmt.Sprintf("Registering the image %q", b.plan.registeredName(from)) },
			run: func(ctx context.Context) (err error) {
				image, err = b.register(ctx, from, snapshot)
				return err
			}},
		{name: "publish image", pauses: true,
			run: func(ctx context.Context) (err error) { result.Products, err = b.publish(ctx, from, image); return err }},
	}
}

// inOrder runs steps in their order, until one fails.
func (b *build) inOrder(ctx context.Context, steps []step) error {
	var aside sync.WaitGroup
	defer aside.Wait()
	for _, s := range steps {
		if s.aside {
			aside.Go(func() {
				if err := b.perform(ctx, s); err != nil {
					b.report.Detail("to be tried again: %v", err)
				}
			})
			continue
		}
		if err := b.perform(ctx, s); err != nil {
			return err
		}
	}
	return nil
}

// perform runs one step: it announces the step, does the work, emits an event with the time
// that it took, and pauses if the user wants that.
func (b *build) perform(ctx context.Context, s step) error {
	if s.when != nil && !s.when() {
		return nil
	}
	if s.heading != nil {
		b.report.Step("%s", s.heading())
	}
	begun := time.Now()
	err := s.run(event.In(ctx, s.name))
	event.Emit(ctx, event.Step{Name: s.name, Users: s.users, Took: time.Since(begun), Err: err})
	if err != nil || !s.pauses {
		return err
	}
	return b.pause(ctx, s.name)
}

// pause ends a step with a pause if the user wants one, and with an error if the build was
// cancelled meanwhile.
func (b *build) pause(ctx context.Context, step string) error {
	if b.plan.Pause != nil {
		begun := time.Now()
		err := b.plan.Pause(ctx, step)
		event.Emit(ctx, event.Pause{After: step, Took: time.Since(begun)})
		if err != nil {
			return err
		}
	}
	if err := context.Cause(ctx); err != nil {
		return fmt.Errorf("cancelled after the step %q: %w", step, err)
	}
	return nil
}
