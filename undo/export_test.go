package undo

import (
	"fmt"
	"hash/crc32"
)

// Sealed is a line of a journal that says anything.
func Sealed(text string) string {
	return fmt.Sprintf("%08x %s\n", crc32.Checksum([]byte(text), castagnoli), text)
}
