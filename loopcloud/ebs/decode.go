package ebs

import (
	"crypto/sha256"
	"encoding/base64"
	"strconv"
	"strings"
)

// The headers of requests and responses.
const (
	dataLength        = "X-Amz-Data-Length"
	progress          = "X-Amz-Progress"
	checksum          = "X-Amz-Checksum"
	checksumAlgorithm = "X-Amz-Checksum-Algorithm"
	aggregation       = "X-Amz-Checksum-Aggregation-Method"
	changedBlocks     = "X-Amz-Changedblockscount"

	sha256Algorithm = "SHA256"
	linear          = "LINEAR"
)

// checksumOf decodes a checksum.
func checksumOf(text, algorithm string) (sum [sha256.Size]byte, err error) {
	if algorithm != sha256Algorithm {
		return sum, invalid("INVALID_PARAMETER_VALUE", "x-amz-Checksum-Algorithm is SHA256, not %q", algorithm)
	}
	raw, err := base64.StdEncoding.DecodeString(text)
	if err != nil || len(raw) != sha256.Size {
		return sum, invalid("INVALID_PARAMETER_VALUE", "x-amz-Checksum %q is not a SHA-256 in base64", text)
	}
	return [sha256.Size]byte(raw), nil
}

// encodeChecksum is the reverse of checksumOf.
func encodeChecksum(sum [sha256.Size]byte) string { return base64.StdEncoding.EncodeToString(sum[:]) }

// blockIndex decodes the index of a block in a path.
func blockIndex(text string) (int64, error) {
	index, err := strconv.ParseInt(text, 10, 32)
	if err != nil || index < 0 || strings.HasPrefix(text, "+") {
		return 0, invalid("INVALID_BLOCK", "The block index %q is not a number from 0 on", text)
	}
	return index, nil
}

// number decodes a number in a range; missing is its value if there is none.
func number(name, text string, lowest, highest, missing int64) (int64, error) {
	if text == "" {
		return missing, nil
	}
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil || n < lowest || n > highest {
		return 0, invalid("INVALID_PARAMETER_VALUE", "%s is a number from %d to %d, not %q", name, lowest, highest, text)
	}
	return n, nil
}
