package ebs

import (
	"crypto/sha256"
	"maps"
	"net/http"
	"slices"

	"github.com/packer-chroot/packer-plugin-chroot/loopcloud/state"
)

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
