package lazydisk

// AbortConnection aborts the FUSE connection of a disk, and does not kill its block server.
func AbortConnection(d *Disk) error { return d.connection.Abort() }
