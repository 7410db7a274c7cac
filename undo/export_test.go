package undo

import (
	"fmt"
	"hash/crc32"
)

// Sealed returns a line of a journal with any text and its checksum.
func Sealed(text string) string {
	return fmt.Sprintf("%08x %s\n", crc32.Checksum([]byte(text), castagnoli), text)
}
