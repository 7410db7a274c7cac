// Package remove deletes a directory with everything below it, like os.RemoveAll, but
// never crosses a mount point and never follows a symbolic link. It is the only
// recursive removal of this module: a directory in which a mount was left may lead to
// the host's own /dev.
package remove
