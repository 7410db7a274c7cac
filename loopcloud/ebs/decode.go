package ebs

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"io"
	"math"
	"regexp"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/packer-chroot/packer-plugin-chroot/loopcloud/state"
)

// tag is a tag on the wire.
type tag struct{ Key, Value string }

// startInput is the body of StartSnapshot.
type startInput struct {
	VolumeSize       *int64
	ParentSnapshotID string `json:"ParentSnapshotId"`
	Tags             []tag
	Description      string
	ClientToken      string
	Encrypted        *bool
	KmsKeyArn        string
	Timeout          *int64
}

var (
	snapshotIDs  = regexp.MustCompile(`^snap-[0-9a-f]{1,59}$`)
	clientTokens = regexp.MustCompile(`^\S{1,255}$`)
	keyARNs      = regexp.MustCompile(`^arn:aws[a-z-]*:kms:.*:[0-9]{12}:key/.*$`)
)

// decodeStart returns the request in the body of StartSnapshot.
func decodeStart(body []byte) (state.UploadRequest, error) {
	var in startInput
	dec := json.NewDecoder(bytes.NewReader(body))
	dec.DisallowUnknownFields() // loopcloud refuses fields that it does not support
	if err := dec.Decode(&in); err != nil {
		return state.UploadRequest{}, invalid("INVALID_PARAMETER_VALUE", "The body is not a StartSnapshot: %v", err)
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return state.UploadRequest{}, invalid("INVALID_PARAMETER_VALUE", "The body has more than one value")
	}
	if err := in.check(); err != nil {
		return state.UploadRequest{}, err
	}
	tags, err := tagsOf(in.Tags)
	req := state.UploadRequest{
		SizeGiB: *in.VolumeSize, ParentID: in.ParentSnapshotID, Description: in.Description,
		Encrypted: in.Encrypted, KMSKeyID: in.KmsKeyArn, Tags: tags, Token: in.ClientToken,
	}
	if in.Timeout != nil {
		req.Timeout = time.Duration(*in.Timeout) * time.Minute
	}
	return req, err
}

// check returns an error if a value is out of its documented range. The state checks the others.
func (in startInput) check() error {
	switch {
	case in.VolumeSize == nil:
		return invalid("INVALID_PARAMETER_VALUE", "VolumeSize is required")
	case in.ParentSnapshotID != "" && !snapshotIDs.MatchString(in.ParentSnapshotID):
		return invalid("INVALID_SNAPSHOT_ID", "ParentSnapshotId %q is not a snapshot ID", in.ParentSnapshotID)
	case utf8.RuneCountInString(in.Description) > 255:
		return invalid("INVALID_PARAMETER_VALUE", "Description has more than 255 characters")
	case in.ClientToken != "" && !clientTokens.MatchString(in.ClientToken):
		return invalid("INVALID_PARAMETER_VALUE", "ClientToken has more than 255 characters or white space")
	case in.KmsKeyArn != "" && !keyARNs.MatchString(in.KmsKeyArn):
		return invalid("INVALID_PARAMETER_VALUE", "KmsKeyArn %q is not the ARN of a key", in.KmsKeyArn)
	case in.Timeout != nil && (*in.Timeout < 10 || *in.Timeout > 4320):
		return invalid("INVALID_PARAMETER_VALUE", "Timeout is 10 to 4320 minutes, not %d", *in.Timeout)
	}
	return nil
}

// tagsOf returns tags as a map.
func tagsOf(list []tag) (map[string]string, error) {
	tags := map[string]string{}
	for _, t := range list {
		if _, again := tags[t.Key]; again {
			return nil, invalid("INVALID_TAG", "The tag %q is given twice", t.Key)
		}
		tags[t.Key] = t.Value
	}
	return tags, nil
}

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

// decodePut returns the block in a PutSnapshotBlock. Its checksum is the header's; it is not
// compared with the data.
func (c *call) decodePut() (state.BlockData, error) {
	none := state.BlockData{}
	h := c.in.HTTP.Header
	if encoding := h.Get("Content-Encoding"); encoding != "" && encoding != "identity" {
		return none, invalid("INVALID_CONTENT_ENCODING", "The content encoding %q is not supported", encoding)
	}
	index, err := blockIndex(c.index)
	if err != nil {
		return none, err
	}
	if length := h.Get(dataLength); length != strconv.Itoa(state.BlockSize) {
		return none, invalid("INVALID_PARAMETER_VALUE", "x-amz-Data-Length is %d, not %q", state.BlockSize, length)
	}
	if len(c.in.Body) != state.BlockSize {
		return none, invalid("INVALID_PARAMETER_VALUE", "Failed to read block data: %d bytes, not %d", len(c.in.Body), state.BlockSize)
	}
	percent, err := number("x-amz-Progress", h.Get(progress), 0, 100, 0)
	if err != nil {
		return none, err
	}
	sum, err := checksumOf(h.Get(checksum), h.Get(checksumAlgorithm))
	return state.BlockData{Index: index, Data: c.in.Body, Sum: sum, Progress: int(percent)}, err
}

// decodeSeal returns the description of the written blocks in a CompleteSnapshot.
func (c *call) decodeSeal() (state.Seal, error) {
	h := c.in.HTTP.Header
	count, err := number("x-amz-ChangedBlocksCount", h.Get(changedBlocks), 0, math.MaxInt32, -1)
	if err != nil {
		return state.Seal{}, err
	}
	if count < 0 {
		return state.Seal{}, invalid("INVALID_PARAMETER_VALUE", "x-amz-ChangedBlocksCount is required")
	}
	if h.Get(checksum) == "" {
		return state.Seal{Count: count}, nil
	}
	if method := h.Get(aggregation); method != linear {
		return state.Seal{}, invalid("INVALID_PARAMETER_VALUE", "x-amz-Checksum-Aggregation-Method is LINEAR, not %q", method)
	}
	sum, err := checksumOf(h.Get(checksum), h.Get(checksumAlgorithm))
	return state.Seal{Count: count, Sum: &sum}, err
}

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
