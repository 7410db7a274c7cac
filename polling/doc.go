// Package polling decides when a build looks at a resource that it waits for.
//
// An Aim returns the pauses between the looks of one wait. It takes them from the progress that
// the cloud reports, from the durations of earlier waits of the same kind on this host, and
// otherwise from the time already waited. All of these may be wrong: they shift a look, and
// never replace it.
//
// A Store is a file that all builds of a user on this host share. It holds the durations of
// earlier waits, and for how long looks are slowed down because the cloud has throttled one.
package polling
