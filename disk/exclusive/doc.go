// Package exclusive reports whether a block device is in use. It is Linux only.
package exclusive
