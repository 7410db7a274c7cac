package lazydisk

// AbortConnection aborts the FUSE connection of a disk, and does not kill its block server.
func AbortConnection(d *Disk) error { return d.connection.Abort() }

// ConnectionNumber returns the kernel's number of the FUSE connection of a disk.
func ConnectionNumber(d *Disk) int { return int(d.connection.Number()) }
