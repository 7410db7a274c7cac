package transfer

import "os"

// NewFile describes the file that Upload creates if there is none.
type NewFile struct {
	// Name is the name of the file if the destination is a directory. If it is empty, the
	// destination must not be a directory.
	Name string
	// Mode is the permissions of a created file.
	Mode os.FileMode
}
