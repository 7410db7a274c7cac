package oapi

import (
	"errors"
	"slices"

	"github.com/packer-chroot/packer-plugin-chroot/loopcloud/state"
)

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

func (h *Handler) viewSnapshot(s state.Snapshot) snapshotView {
	return snapshotView{
		SnapshotID: s.ID, State: string(s.State), Progress: s.Progress, Description: s.Description,
		VolumeID: s.VolumeID, VolumeSize: s.SizeGiB, AccountID: s.Account, AccountAlias: h.alias(s.Account),
		CreationDate: wireTime(s.Started), Permissions: permissionsView(s.CreateVolume),
		Tags: tagsView(s.Tags), ClientToken: s.Token,
	}
}

type createSnapshotParams struct {
	common
	VolumeID         string `json:"VolumeId"`
	SourceSnapshotID string `json:"SourceSnapshotId"`
	SourceRegionName string `json:"SourceRegionName"`
	Description      string `json:"Description"`
	ClientToken      string `json:"ClientToken"`
}

// createSnapshot makes a snapshot of a volume, or copies one.
func (h *Handler) createSnapshot(r request, p createSnapshotParams) (answer, error) {
	if p.VolumeID == "" {
		return h.copySnapshot(r, p)
	}
	switch {
	case p.SourceSnapshotID != "" || p.SourceRegionName != "":
		return nil, badValue.with("VolumeId goes with neither SourceSnapshotId nor SourceRegionName")
	case len([]rune(p.Description)) > maxDescription:
		return nil, badValue.with("the parameter Description has more than %d characters", maxDescription)
	}
	if err := checkID("vol", p.VolumeID); err != nil {
		return nil, err
	}
	s, err := h.state.CreateSnapshot(r.caller, state.SnapshotRequest{
		VolumeID: p.VolumeID, Description: p.Description, Token: p.ClientToken, IDDigits: idDigits, DryRun: p.DryRun,
	})
	var refused *state.Error
	if errors.As(err, &refused) && refused.Kind == state.WrongState {
		return nil, volumeState.with("InvalidVolumeState: %v", refused)
	}
	if err != nil {
		return nil, err
	}
	return answer{"Snapshot": h.viewSnapshot(s)}, nil
}

// maxDescription is the length of a description, in characters.
const maxDescription = 255

func (h *Handler) copySnapshot(r request, p createSnapshotParams) (answer, error) {
	if p.SourceSnapshotID == "" {
		return nil, missing.with("the parameter VolumeId or SourceSnapshotId is required")
	}
	if err := checkID("snap", p.SourceSnapshotID); err != nil {
		return nil, err
	}
	if err := checkSourceRegion(r, p.SourceRegionName); err != nil {
		return nil, err
	}
	s, err := h.state.CopySnapshot(r.caller, state.SnapshotCopyRequest{
		SourceID: p.SourceSnapshotID, SourceRegion: p.SourceRegionName, Description: p.Description,
		Token: p.ClientToken, IDDigits: idDigits, DryRun: p.DryRun,
	})
	if err != nil {
		return nil, err
	}
	return answer{"Snapshot": h.viewSnapshot(s)}, nil
}

// checkSourceRegion refuses a copy from another region than the caller's: the
// API has none.
func checkSourceRegion(r request, name string) error {
	switch name {
	case "":
		return missing.with("the parameter SourceRegionName is required")
	case r.caller.Region:
		return nil
	}
	return badValue.with("the value %q of the parameter SourceRegionName is not the account's region %s", name, r.caller.Region)
}

type readSnapshotsParams struct {
	paging
	Filters filters `json:"Filters"`
}

var snapshotFilters = withTags(func(v snapshotView) []tag { return v.Tags }, map[string]property[snapshotView]{
	"SnapshotIds":                         {ids, one(func(v snapshotView) string { return v.SnapshotID })},
	"AccountIds":                          {text, one(func(v snapshotView) string { return v.AccountID })},
	"AccountAliases":                      {text, one(func(v snapshotView) string { return v.AccountAlias })},
	"Descriptions":                        {wild, func(v snapshotView) []string { return []string{v.Description} }},
	"States":                              {text, one(func(v snapshotView) string { return v.State })},
	"Progresses":                          {number, integer(func(v snapshotView) int64 { return int64(v.Progress) })},
	"VolumeIds":                           {ids, one(func(v snapshotView) string { return v.VolumeID })},
	"VolumeSizes":                         {number, integer(func(v snapshotView) int64 { return v.VolumeSize })},
	"ClientTokens":                        {text, one(func(v snapshotView) string { return v.ClientToken })},
	"FromCreationDate":                    {notBefore, one(func(v snapshotView) string { return v.CreationDate })},
	"ToCreationDate":                      {notAfter, one(func(v snapshotView) string { return v.CreationDate })},
	"PermissionsToCreateVolumeAccountIds": {text, func(v snapshotView) []string { return v.Permissions.AccountIDs }},
	"PermissionsToCreateVolumeGlobalPermission": {truth, flag(func(v snapshotView) bool { return v.Permissions.GlobalPermission })},
})

func (h *Handler) readSnapshots(r request, p readSnapshotsParams) (answer, error) {
	views, err := selected(mapped(h.state.Snapshots(r.caller), h.viewSnapshot), p.Filters, snapshotFilters)
	if err != nil {
		return nil, err
	}
	return page(p.paging, "Snapshots", views)
}

type updateSnapshotParams struct {
	common
	SnapshotID  string           `json:"SnapshotId" need:"yes"`
	Permissions permissionChange `json:"PermissionsToCreateVolume" need:"yes"`
}

func (h *Handler) updateSnapshot(r request, p updateSnapshotParams) (answer, error) {
	if err := checkID("snap", p.SnapshotID); err != nil {
		return nil, err
	}
	change, err := p.Permissions.change()
	if err != nil {
		return nil, err
	}
	s, err := h.state.ShareSnapshot(r.caller, p.SnapshotID, change, p.DryRun)
	if err != nil {
		return nil, err
	}
	return answer{"Snapshot": h.viewSnapshot(s)}, nil
}

type deleteSnapshotParams struct {
	common
	SnapshotID string `json:"SnapshotId" need:"yes"`
}

func (h *Handler) deleteSnapshot(r request, p deleteSnapshotParams) (answer, error) {
	if err := checkID("snap", p.SnapshotID); err != nil {
		return nil, err
	}
	if err := h.checkUnused(r.caller, p.SnapshotID); err != nil {
		return nil, err
	}
	return answer{}, h.state.DeleteSnapshot(r.caller, p.SnapshotID, p.DryRun)
}

// checkUnused refuses a snapshot that an image uses.
func (h *Handler) checkUnused(caller state.Caller, id string) error {
	images := h.state.Images(caller)
	i := slices.IndexFunc(images, func(img state.Image) bool {
		return slices.ContainsFunc(img.Mappings, func(m state.Mapping) bool { return m.Volume != nil && m.Volume.SnapshotID == id })
	})
	if i >= 0 {
		return conflict.with("the snapshot %s is used by the image %s", id, images[i].ID)
	}
	return nil
}
