package report

import "time"

// Format is the version of the schema of Report. It grows when a field changes its meaning or is
// removed, and not when a field is added.
const Format = 1

// Report is everything that is known of a build. It is the schema of the JSON report. Times within the
// build are in seconds since Started.
type Report struct {
	Format int `json:"format"`
	Info
	Started time.Time `json:"started"`
	Seconds float64   `json:"seconds"`
	// Succeeded reports whether the build has made its image, and Error is the reason if not.
	Succeeded bool   `json:"succeeded"`
	Error     string `json:"error,omitempty"`
	// Images are the images of a build that has succeeded.
	Images    []Image    `json:"images"`
	Division  Division   `json:"division"`
	Steps     []Step     `json:"steps"`
	Waits     []Wait     `json:"waits"`
	Actions   []Action   `json:"actions"`
	Calls     []Call     `json:"calls"`
	Commands  []Command  `json:"commands"`
	Mounts    []Mount    `json:"mounts"`
	Transfers []Transfer `json:"transfers"`
	Resources []Resource `json:"resources"`
	// Packages is null if the databases of packages were not read.
	Packages *Packages `json:"packages"`
	Warnings []Note    `json:"warnings"`
	// Delays are calls and waits that the cloud has delayed, for example by throttling.
	Delays  []Note `json:"delays"`
	Holders []Note `json:"holders"`
	// Undone are acts that were undone because the build has failed, or those of killed builds.
	Undone []Note `json:"undone"`
	// Omitted is the number of entries of each list that were left out because it was too long.
	Omitted map[string]int `json:"omitted"`
}

// Info identifies a build.
type Info struct {
	// Program is the type of the builder, and Version that of the plugin.
	Program string `json:"program"`
	Version string `json:"version"`
	// Build is the ID of the build, and Name the name of its source in the template.
	Build string `json:"build"`
	Name  string `json:"name"`
	// ImageName is the name of the image.
	ImageName string `json:"image_name"`
}

// Image is an image in one region.
type Image struct {
	Region    string   `json:"region"`
	ID        string   `json:"id"`
	Snapshots []string `json:"snapshots"`
}

// Division divides the time of a build. Its parts do not overlap, and their sum is the whole.
type Division struct {
	// Cloud is the time in which a call or a wait for the cloud was under way, except during
	// Provisioners and Pauses.
	Cloud float64 `json:"cloud"`
	// Provisioners is the time of provisioners and of the commands in the options.
	Provisioners float64 `json:"provisioners"`
	// Pauses is the time in which the user was asked with -debug.
	Pauses float64 `json:"pauses"`
	// Builder is the rest.
	Builder float64 `json:"builder"`
}

// Span is a part of a build's time.
type Span struct {
	Begin float64 `json:"begin"`
	End   float64 `json:"end"`
	// Step is the step in which it was; empty before and after the steps.
	Step  string `json:"step,omitempty"`
	Error string `json:"error,omitempty"`
}

// Duration returns the length of the span in seconds.
func (s Span) Duration() float64 { return s.End - s.Begin }

// Step is a step of the build.
type Step struct {
	Name string `json:"name"`
	Span
	// Users reports whether its time is that of provisioners, or of commands in the options.
	Users bool `json:"users,omitempty"`
}

// Wait is a wait for a resource.
type Wait struct {
	Name string `json:"name"`
	Span
	// State is the last state, and Percent the last progress.
	State   string `json:"state"`
	Percent int    `json:"percent,omitempty"`
	// Looks is the number of polls.
	Looks int `json:"looks,omitempty"`
}

// Call is one attempt of an API call.
type Call struct {
	Service string `json:"service"`
	Action  string `json:"action"`
	Span
	// Attempt counts from 1, and Pause is the time since the attempt before.
	Attempt   int     `json:"attempt"`
	Pause     float64 `json:"pause,omitempty"`
	RequestID string  `json:"request_id,omitempty"`
}

// Action holds the figures of all attempts of the calls of one action.
type Action struct {
	Service string `json:"service"`
	Action  string `json:"action"`
	// Calls is the number of attempts, Failed how many of them have failed, and Repeated how many were not
	// the first of their call.
	Calls    int `json:"calls"`
	Failed   int `json:"failed"`
	Repeated int `json:"repeated"`
	// Latency of an attempt; 0 for requests for blocks, which are only counted.
	Total   float64 `json:"total"`
	Fastest float64 `json:"fastest"`
	Median  float64 `json:"median"`
	Slowest float64 `json:"slowest"`
	// Errors are the texts of failures, each once, at most a few.
	Errors []string `json:"errors,omitempty"`
	// Steps counts the attempts of each step.
	Steps map[string]int `json:"steps"`
}

// Command is a command that was run in the chroot or on the host.
type Command struct {
	// Place is "chroot" or "host".
	Place string `json:"place"`
	Line  string `json:"line"`
	Span
	Status int `json:"status"`
}

// Mount is a mount, or an unmounting if Source is empty.
type Mount struct {
	Source string `json:"source,omitempty"`
	Target string `json:"target"`
	Type   string `json:"type,omitempty"`
	Span
}

// Transfer is data that was copied.
type Transfer struct {
	Direction string `json:"direction"`
	Name      string `json:"name,omitempty"`
	Bytes     int64  `json:"bytes"`
	Span
}

// Resource is a resource in the cloud.
type Resource struct {
	Kind string `json:"kind"`
	Name string `json:"name"`
	// Fate is kept, removed, restored or left.
	Fate string `json:"fate"`
	// At is when it was requested; null if that is not known.
	At *float64 `json:"at"`
}

// Note is a text with its time.
type Note struct {
	At   float64 `json:"at"`
	Step string  `json:"step,omitempty"`
	Text string  `json:"text"`
}

// Packages are the changes of the packages of the image.
type Packages struct {
	// Databases are the paths that were read in the image, and Problems the reasons why some could not be
	// read.
	Databases []string `json:"databases"`
	Problems  []string `json:"problems"`
	// Before and After are the numbers of packages.
	Before   int             `json:"before"`
	After    int             `json:"after"`
	Added    []Package       `json:"added"`
	Removed  []Package       `json:"removed"`
	Changed  []PackageChange `json:"changed"`
	Compared bool            `json:"compared"`
}

// Package is a package in one version.
type Package struct {
	Manager string `json:"manager"`
	Name    string `json:"name"`
	Arch    string `json:"arch,omitempty"`
	Version string `json:"version"`
}

// PackageChange is a package with another version than before.
type PackageChange struct {
	Manager string `json:"manager"`
	Name    string `json:"name"`
	Arch    string `json:"arch,omitempty"`
	Before  string `json:"before"`
	After   string `json:"after"`
}
