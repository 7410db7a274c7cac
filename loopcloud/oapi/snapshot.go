package oapi

import (
	"errors"
	"slices"

	"github.com/packer-chroot/packer-plugin-chroot/loopcloud/state"
)

// snapshotView is a snapshot in a response.
type snapshotView struct {
	SnapshotID   string      `json:"SnapshotId"`
	State        string      `json:"State"`
	Progress     int         `json:"Progress"`
	Description  string      `json:"Description"`
	VolumeID     string      `json:"VolumeId"`
	VolumeSize   int64       `json:"VolumeSize"`
	AccountID    string      `json:"AccountId"`
	AccountAlias string      `json:"AccountAlias,omitempty"`
	CreationDate string      `json:"CreationDate"`
	Permissions  permissions `json:"PermissionsToCreateVolume"`
	Tags         []tag       `json:"Tags"`
	ClientToken  string      `json:"ClientToken,omitempty"`
}

func (c *call) viewSnapshot(s state.Snapshot) snapshotView {
	return snapshotView{
		SnapshotID: s.ID, State: string(s.State), Progress: s.Progress, Description: s.Description,
		VolumeID: s.VolumeID, VolumeSize: s.SizeGiB, AccountID: s.Account, AccountAlias: c.alias(s.Account),
		CreationDate: wireTime(s.Started), Permissions: permissionsView(s.CreateVolume),
		Tags: tagsView(s.Tags), ClientToken: s.Token,
	}
}

// snapshotResponse is the response of the calls that return one snapshot.
type snapshotResponse struct {
	baseResponse
	Snapshot snapshotView `json:"Snapshot"`
}

func (c *call) snapshotResponse(s state.Snapshot) *snapshotResponse {
	return &snapshotResponse{Snapshot: c.viewSnapshot(s)}
}

type createSnapshotRequest struct {
	baseRequest
	VolumeID         string `json:"VolumeId"`
	SourceSnapshotID string `json:"SourceSnapshotId"`
	SourceRegionName string `json:"SourceRegionName"`
	Description      string `json:"Description"`
	ClientToken      string `json:"ClientToken"`
}

// createSnapshot creates a snapshot of a volume or copies a snapshot.
func (c *call) createSnapshot(in *createSnapshotRequest) (*snapshotResponse, error) {
	if in.VolumeID == "" {
		return c.copySnapshot(in)
	}
	switch {
	case in.SourceSnapshotID != "" || in.SourceRegionName != "":
		return nil, badValue.with("VolumeId cannot be combined with SourceSnapshotId or SourceRegionName")
	case len([]rune(in.Description)) > maxDescription:
		return nil, badValue.with("the parameter Description has more than %d characters", maxDescription)
	}
	if err := checkID("vol", in.VolumeID); err != nil {
		return nil, err
	}
	s, err := c.st.CreateSnapshot(c.caller, state.SnapshotRequest{
		VolumeID: in.VolumeID, Description: in.Description, Token: in.ClientToken, IDDigits: idDigits, DryRun: in.DryRun,
	})
	var refused *state.Error
	if errors.As(err, &refused) && refused.Kind == state.WrongState {
		return nil, volumeState.with("InvalidVolumeState: %v", refused)
	}
	if err != nil {
		return nil, err
	}
	return c.snapshotResponse(s), nil
}

// maxDescription is the largest length of a description, in characters.
const maxDescription = 255

func (c *call) copySnapshot(in *createSnapshotRequest) (*snapshotResponse, error) {
	if in.SourceSnapshotID == "" {
		return nil, missing.with("the parameter VolumeId or SourceSnapshotId is required")
	}
	if err := checkID("snap", in.SourceSnapshotID); err != nil {
		return nil, err
	}
	if err := c.checkSourceRegion(in.SourceRegionName); err != nil {
		return nil, err
	}
	s, err := c.st.CopySnapshot(c.caller, state.SnapshotCopyRequest{
		SourceID: in.SourceSnapshotID, SourceRegion: in.SourceRegionName, Description: in.Description,
		Token: in.ClientToken, IDDigits: idDigits, DryRun: in.DryRun,
	})
	if err != nil {
		return nil, err
	}
	return c.snapshotResponse(s), nil
}

// checkSourceRegion returns an error if a copy has another source region than the caller's
// region: the API does not copy between regions.
func (c *call) checkSourceRegion(name string) error {
	switch name {
	case "":
		return missing.with("the parameter SourceRegionName is required")
	case c.caller.Region:
		return nil
	}
	return badValue.with("the value %q of the parameter SourceRegionName is not the account's region %s", name, c.caller.Region)
}

type readSnapshotsResponse struct {
	nextPage
	baseResponse
	Snapshots []snapshotView `json:"Snapshots"`
}

var snapshotFilters = withTags(func(v snapshotView) []tag { return v.Tags }, map[string]filter[snapshotView]{
	"SnapshotIds":                         {ids, one(func(v snapshotView) string { return v.SnapshotID })},
	"AccountIds":                          {text, one(func(v snapshotView) string { return v.AccountID })},
	"AccountAliases":                      {text, one(func(v snapshotView) string { return v.AccountAlias })},
	"Descriptions":                        {pattern, func(v snapshotView) []string { return []string{v.Description} }},
	"States":                              {text, one(func(v snapshotView) string { return v.State })},
	"Progresses":                          {number, integer(func(v snapshotView) int64 { return int64(v.Progress) })},
	"VolumeIds":                           {ids, one(func(v snapshotView) string { return v.VolumeID })},
	"VolumeSizes":                         {number, integer(func(v snapshotView) int64 { return v.VolumeSize })},
	"ClientTokens":                        {text, one(func(v snapshotView) string { return v.ClientToken })},
	"FromCreationDate":                    {notBefore, one(func(v snapshotView) string { return v.CreationDate })},
	"ToCreationDate":                      {notAfter, one(func(v snapshotView) string { return v.CreationDate })},
	"PermissionsToCreateVolumeAccountIds": {text, func(v snapshotView) []string { return v.Permissions.AccountIDs }},
	"PermissionsToCreateVolumeGlobalPermission": {boolean, flag(func(v snapshotView) bool { return v.Permissions.GlobalPermission })},
})

func (c *call) readSnapshots(in *listRequest) (*readSnapshotsResponse, error) {
	snapshots, next, err := list(in, snapshotFilters, mapped(c.st.Snapshots(c.caller), c.viewSnapshot))
	return &readSnapshotsResponse{Snapshots: snapshots, nextPage: next}, err
}

type updateSnapshotRequest struct {
	baseRequest
	SnapshotID  string           `json:"SnapshotId" need:"yes"`
	Permissions permissionChange `json:"PermissionsToCreateVolume" need:"yes"`
}

func (c *call) updateSnapshot(in *updateSnapshotRequest) (*snapshotResponse, error) {
	if err := checkID("snap", in.SnapshotID); err != nil {
		return nil, err
	}
	change, err := in.Permissions.stateChange()
	if err != nil {
		return nil, err
	}
	s, err := c.st.ShareSnapshot(c.caller, in.SnapshotID, change, in.DryRun)
	if err != nil {
		return nil, err
	}
	return c.snapshotResponse(s), nil
}

type deleteSnapshotRequest struct {
	baseRequest
	SnapshotID string `json:"SnapshotId" need:"yes"`
}

func (c *call) deleteSnapshot(in *deleteSnapshotRequest) (*emptyResponse, error) {
	if err := checkID("snap", in.SnapshotID); err != nil {
		return nil, err
	}
	if err := c.checkUnused(in.SnapshotID); err != nil {
		return nil, err
	}
	return succeeded(c.st.DeleteSnapshot(c.caller, in.SnapshotID, in.DryRun))
}

// checkUnused returns an error if an image uses a snapshot.
func (c *call) checkUnused(id string) error {
	images := c.st.Images(c.caller)
	i := slices.IndexFunc(images, func(img state.Image) bool {
		return slices.ContainsFunc(img.Mappings, func(m state.Mapping) bool { return m.Volume != nil && m.Volume.SnapshotID == id })
	})
	if i >= 0 {
		return conflict.with("the snapshot %s is used by the image %s", id, images[i].ID)
	}
	return nil
}
