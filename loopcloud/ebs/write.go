package ebs

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"io"
	"maps"
	"math"
	"net/http"
	"regexp"
	"slices"
	"strconv"
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

// startOutput is the response of StartSnapshot.
type startOutput struct {
	SnapshotID       string `json:"SnapshotId"`
	OwnerID          string `json:"OwnerId"`
	Status           string
	StartTime        float64
	VolumeSize       int64
	BlockSize        int64
	Description      string `json:",omitempty"`
	Tags             []tag  `json:",omitempty"`
	ParentSnapshotID string `json:"ParentSnapshotId,omitempty"`
	KmsKeyArn        string `json:",omitempty"`
	SseType          string
}

func (c *call) startSnapshot() (response, error) {
	req, err := decodeStart(c.in.Body)
	if err != nil {
		return response{}, err
	}
	s, err := c.st.StartSnapshot(c.caller, req)
	if err != nil {
		return response{}, err
	}
	return response{status: http.StatusCreated, body: started(s)}, nil
}

// started returns the response for a new snapshot.
func started(s state.Snapshot) startOutput {
	out := startOutput{
		SnapshotID: s.ID, OwnerID: s.Account, Status: string(s.State), StartTime: seconds(s.Started),
		VolumeSize: s.SizeGiB, BlockSize: state.BlockSize, Description: s.Description,
		ParentSnapshotID: s.ParentID, KmsKeyArn: s.KMSKeyID, SseType: "none",
	}
	if s.Encrypted {
		out.SseType = "sse-kms"
	}
	for _, key := range slices.Sorted(maps.Keys(s.Tags)) {
		out.Tags = append(out.Tags, tag{key, s.Tags[key]})
	}
	return out
}

func (c *call) putSnapshotBlock() (response, error) {
	b, err := c.decodePut()
	if err != nil {
		return response{}, err
	}
	if sha256.Sum256(b.Data) != b.Sum {
		return response{}, refuse(http.StatusForbidden, badSignature, "", "The checksum of block %d does not match its data", b.Index)
	}
	if err := c.st.PutBlock(c.caller, c.snapshot, b); err != nil {
		return response{}, err
	}
	return response{status: http.StatusCreated, body: struct{}{}, header: map[string]string{
		checksum: encodeChecksum(b.Sum), checksumAlgorithm: sha256Algorithm,
	}}, nil
}

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

// completeOutput is the response of CompleteSnapshot.
type completeOutput struct{ Status string }

func (c *call) completeSnapshot() (response, error) {
	seal, err := c.decodeSeal()
	if err != nil {
		return response{}, err
	}
	s, err := c.st.CompleteSnapshot(c.caller, c.snapshot, seal)
	if err != nil {
		return response{}, err
	}
	return response{status: http.StatusAccepted, body: completeOutput{string(s.State)}}, nil
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
