// Package exclusive reports whether a block device is in use. It works on Linux only.
package exclusive
