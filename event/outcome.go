package event

import (
	"fmt"
	"time"
)

// Fate is the state of a Resource at the end of a build.
type Fate string

// The fates of resources.
const (
	// Kept resources belong to the image.
	Kept Fate = "kept"
	// Removed resources were removed by the build.
	Removed Fate = "removed"
	// Restored images were replaced, and registered again because the build has failed.
	Restored Fate = "restored"
	// Left resources exist although they do not belong to the image.
	Left Fate = "left"
)

// Resource is a resource that a build created, or an image that it replaced. It is reported at the
// end of the build.
type Resource struct {
	// Kind is the kind, such as volume, and Name the name with the ID.
	Kind, Name string
	Fate       Fate
	// Since is when it was requested; zero if that is not known.
	Since time.Time
}

// String implements Event.
func (r Resource) String() string { return fmt.Sprintf("%s: %s", line(r.Name), r.Fate) }

// Undone is an act that was undone because the build has failed.
type Undone struct{ Name string }

// String implements Event.
func (u Undone) String() string { return "undone: " + line(u.Name) }

// Warning is a problem that has not ended the build.
type Warning struct{ Text string }

// String implements Event.
func (w Warning) String() string { return "warning: " + line(w.Text) }

// Holder is something that kept the root in use, and was ended.
type Holder struct{ Text string }

// String implements Event.
func (h Holder) String() string { return "holder of the root: " + line(h.Text) }

// Package is an installed package of an image.
type Package struct {
	// Manager is dpkg, rpm or apk.
	Manager       string
	Name, Version string
	// Arch is the architecture; empty if the database does not have it.
	Arch string
}

// Packages are the packages of the image at one time.
type Packages struct {
	// After is false before provisioning, and true after it.
	After     bool
	Installed []Package
	// Databases are the paths in the image that were read.
	Databases []string
	// Problems are reasons why a database could not be read.
	Problems []string
	Took     time.Duration
}

// String implements Event.
func (p Packages) String() string {
	when := "before"
	if p.After {
		when = "after"
	}
	return fmt.Sprintf("packages %s provisioning: %d installed", when, len(p.Installed)) + end(p.Took, nil)
}
