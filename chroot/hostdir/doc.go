// Package hostdir creates directories of the host, and removes exactly those that it has
// created, although other builds share their parents.
//
// It never removes a directory that is not empty. For paths that other users of the host
// can change, use package safedir; for paths in an image, use package rootfs.
package hostdir
