// Package exclusive tells whether anything uses a block device. It is Linux only.
package exclusive
