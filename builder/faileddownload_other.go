//go:build !linux

package builder

// discardDestination removes the file that a failed download was to fill; Linux only.
func discardDestination() {}
