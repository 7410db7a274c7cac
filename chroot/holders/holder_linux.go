package holders

// Holder is a process that holds a root.
type Holder struct {
	pid int
	// description is its id and its command line.
	description string
	// how is the way in which it holds the root, as the end of a sentence.
	how string
	// fd is a pidfd, so that no signal reaches a later process with the id.
	fd int
}

// String describes the process in a log or an error.
func (h Holder) String() string { return h.description + ", which " + h.how }
