// Package remove deletes a directory with everything below it, like os.RemoveAll, but
// never crosses a mount point and never follows a symbolic link. It is the only recursive
// removal of this module, because a directory with a remaining mount may lead to the host's
// own /dev.
package remove
