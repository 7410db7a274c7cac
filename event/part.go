package event

import "context"

// OtherBuilds is the part of a build that cleans up after killed builds.
const OtherBuilds = "clean up after other builds"

// In returns a context whose events come from a part of the build, such as a step. It is the same
// context if its listener does not distinguish parts: those that do have a method In.
func In(ctx context.Context, part string) context.Context {
	if l, ok := Of(ctx).(interface{ In(part string) Listener }); ok {
		return Listen(ctx, l.In(part))
	}
	return ctx
}

// All returns a listener that passes each event to all of some listeners, in their order.
func All(listeners ...Listener) Listener { return all(listeners) }

type all []Listener

// Hear implements Listener.
func (a all) Hear(e Event) {
	for _, l := range a {
		l.Hear(e)
	}
}

// In returns the listener for the events of a part of the build.
func (a all) In(part string) Listener {
	within := make(all, len(a))
	for i, l := range a {
		within[i] = l
		if parted, ok := l.(interface{ In(part string) Listener }); ok {
			within[i] = parted.In(part)
		}
	}
	return within
}
