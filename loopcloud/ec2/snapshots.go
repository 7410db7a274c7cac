package ec2

import (
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"

	"github.com/packer-chroot/packer-plugin-chroot/loopcloud/query"
	"github.com/packer-chroot/packer-plugin-chroot/loopcloud/state"
)

type createSnapshotInput struct {
	baseInput
	tagSpecifications
	VolumeID    snapshotSource `query:"VolumeId,required"`
	Description string         `query:"Description"`
}

// snapshotItem is a snapshot in a response.
type snapshotItem struct {
	SnapshotID  string        `xml:"snapshotId"`
	VolumeID    string        `xml:"volumeId"`
	State       string        `xml:"status"`
	Reason      string        `xml:"statusMessage,omitempty"`
	Started     string        `xml:"startTime"`
	Progress    string        `xml:"progress"`
	OwnerID     string        `xml:"ownerId"`
	OwnerAlias  string        `xml:"ownerAlias,omitempty"`
	VolumeSize  int64         `xml:"volumeSize"`
	Description string        `xml:"description"`
	Tags        *set[tagItem] `xml:"tagSet"`
	Encrypted   bool          `xml:"encrypted"`
	KMSKeyID    string        `xml:"kmsKeyId,omitempty"`
	StorageTier string        `xml:"storageTier"`
}

type snapshotOutput struct {
	baseResponse
	snapshotItem
}

func (c *call) createSnapshot(in *createSnapshotInput) (*snapshotOutput, error) {
	tags, err := in.tagsOf("snapshot")
	if err != nil {
		return nil, err
	}
	s, err := c.st.CreateSnapshot(c.caller, state.SnapshotRequest{
		VolumeID: string(in.VolumeID), Description: in.Description,
		Tags: tags["snapshot"], IDDigits: idDigits, DryRun: in.DryRun,
	})
	return &snapshotOutput{snapshotItem: c.describeSnapshot(s)}, err
}

// standardTier is the only storage tier here.
const standardTier = "standard"

func (c *call) describeSnapshot(s state.Snapshot) snapshotItem {
	return snapshotItem{
		SnapshotID: s.ID, VolumeID: s.VolumeID, State: string(s.State), Reason: s.Reason, Started: stamp(s.Started),
		Progress: percent(s), OwnerID: s.Account, OwnerAlias: c.aliasOf(s.Account),
		VolumeSize: s.SizeGiB, Description: s.Description, Tags: tagSet(s.Tags),
		Encrypted: s.Encrypted, KMSKeyID: s.KMSKeyID, StorageTier: standardTier,
	}
}

func percent(s state.Snapshot) string { return fmt.Sprintf("%d%%", s.Progress) }

func (c *call) snapshotFilters() attributes[state.Snapshot] {
	return attributes[state.Snapshot]{
		"description":  one(func(s state.Snapshot) string { return s.Description }),
		"encrypted":    one(func(s state.Snapshot) string { return strconv.FormatBool(s.Encrypted) }),
		"owner-alias":  one(func(s state.Snapshot) string { return c.aliasOf(s.Account) }),
		"owner-id":     one(func(s state.Snapshot) string { return s.Account }),
		"progress":     one(percent),
		"snapshot-id":  one(func(s state.Snapshot) string { return s.ID }),
		"start-time":   one(func(s state.Snapshot) string { return stamp(s.Started) }),
		"status":       one(func(s state.Snapshot) string { return string(s.State) }),
		"storage-tier": one(func(state.Snapshot) string { return standardTier }),
		"volume-id":    one(func(s state.Snapshot) string { return s.VolumeID }),
		"volume-size":  one(func(s state.Snapshot) string { return decimal(s.SizeGiB) }),
	}.withTags(func(s state.Snapshot) map[string]string { return s.Tags })
}

type describeSnapshotsInput struct {
	baseInput
	paging
	IDs        []snapshotID `query:"SnapshotId"`
	Owners     []string     `query:"Owner"`
	Restorable []string     `query:"RestorableBy"`
	Filters    []filter     `query:"Filter"`
}

type describeSnapshotsOutput struct {
	baseResponse
	Snapshots set[snapshotItem] `xml:"snapshotSet"`
	NextToken string            `xml:"nextToken,omitempty"`
}

func (c *call) describeSnapshots(in *describeSnapshotsInput) (*describeSnapshotsOutput, error) {
	if err := in.checkPage(5, len(in.IDs)); err != nil {
		return nil, err
	}
	snapshots, err := c.snapshots(in)
	if err != nil {
		return nil, err
	}
	if snapshots, err = pick(in.Filters, c.snapshotFilters(), snapshots); err != nil {
		return nil, err
	}
	shown, next, err := page(c, in.paging, snapshots, func(s state.Snapshot) string { return sortKey(s.Started, s.ID) })
	return &describeSnapshotsOutput{Snapshots: convert(shown, c.describeSnapshot), NextToken: next}, err
}

// snapshots returns the snapshots that the caller can see and the request selects by ID, owner
// and permission to create volumes.
func (c *call) snapshots(in *describeSnapshotsInput) ([]state.Snapshot, error) {
	found, missing := withIDs(c.st.Snapshots(c.caller), plain(in.IDs), func(s state.Snapshot) string { return s.ID })
	if len(missing) > 0 {
		return nil, query.Refuse("InvalidSnapshot.NotFound", "The snapshot '%s' does not exist.", missing[0])
	}
	owners, err := c.owners(in.Owners)
	if err != nil {
		return nil, err
	}
	users, err := c.users(in.Restorable)
	if err != nil {
		return nil, err
	}
	return slices.DeleteFunc(found, func(s state.Snapshot) bool {
		return len(in.Owners) > 0 && !slices.Contains(owners, s.Account) ||
			len(in.Restorable) > 0 && !mayUse(users, s.CreateVolume, s.Account)
	}), nil
}

// users returns the accounts of RestorableBy (IDs, self, all) as IDs and all.
func (c *call) users(names []string) ([]string, error) {
	var ids []string
	for _, name := range names {
		if name == everyone {
			ids = append(ids, everyone)
			continue
		}
		more, err := c.owners([]string{name})
		if err != nil {
			return nil, err
		}
		ids = append(ids, more...)
	}
	return ids, nil
}

// mayUse reports whether one of these users owns a snapshot or has permission to use it; all
// stands for public snapshots.
func mayUse(users []string, granted state.Permissions, owner string) bool {
	return slices.ContainsFunc(users, func(user string) bool {
		return user == owner || user == everyone && granted.Public || slices.Contains(granted.Accounts, user)
	})
}

type deleteSnapshotInput struct {
	baseInput
	SnapshotID snapshotID `query:"SnapshotId,required"`
}

func (c *call) deleteSnapshot(in *deleteSnapshotInput) (*done, error) {
	return succeeded(c.st.DeleteSnapshot(c.caller, string(in.SnapshotID), in.DryRun))
}

type copySnapshotInput struct {
	baseInput
	tagSpecifications
	SourceRegion string     `query:"SourceRegion,required"`
	SourceID     snapshotID `query:"SourceSnapshotId,required"`
	Description  string     `query:"Description"`
	Encrypted    bool       `query:"Encrypted"`
	KMSKeyID     string     `query:"KmsKeyId"`
	// DestinationRegion and PresignedURL are added by clients, to prove to the source region that
	// the caller requested the copy.
	DestinationRegion string `query:"DestinationRegion"`
	PresignedURL      string `query:"PresignedUrl"`
	Minutes           *int64 `query:"CompletionDurationMinutes"`
}

type copySnapshotOutput struct {
	baseResponse
	SnapshotID string        `xml:"snapshotId"`
	Tags       *set[tagItem] `xml:"tagSet"`
}

func (c *call) copySnapshot(in *copySnapshotInput) (*copySnapshotOutput, error) {
	if err := errors.Join(c.checkCopy(in), checkMinutes("CompletionDurationMinutes", in.Minutes)); err != nil {
		return nil, err
	}
	tags, err := in.tagsOf("snapshot")
	if err != nil {
		return nil, err
	}
	s, err := c.st.CopySnapshot(c.caller, state.SnapshotCopyRequest{
		SourceID: string(in.SourceID), SourceRegion: in.SourceRegion, Description: in.Description,
		Encrypted: in.Encrypted, KMSKeyID: in.KMSKeyID, Defaults: true,
		Tags: tags["snapshot"], IDDigits: idDigits, DryRun: in.DryRun,
	})
	return &copySnapshotOutput{SnapshotID: s.ID, Tags: tagSet(s.Tags)}, err
}

// checkCopy checks the regions in a request, if it has any.
func (c *call) checkCopy(in *copySnapshotInput) error {
	if in.DestinationRegion != "" && in.DestinationRegion != c.caller.Region {
		return query.Refuse("InvalidParameterValue", "Invalid value '%s' for DestinationRegion: the request was sent to %s", in.DestinationRegion, c.caller.Region)
	}
	if in.PresignedURL == "" {
		return nil
	}
	r, err := http.NewRequest(http.MethodGet, in.PresignedURL, nil) //nolint:noctx // never sent: only its signature is verified
	if err != nil {
		return query.Refuse("InvalidParameterValue", "Invalid value for PresignedUrl: %v", err)
	}
	source, err := c.request.CallerOf(r, nil)
	if err != nil {
		return err
	}
	if source != (state.Caller{Account: c.caller.Account, Region: in.SourceRegion}) {
		return query.Refuse("InvalidParameterValue", "The PresignedUrl is not for a copy from %s", in.SourceRegion)
	}
	return nil
}

// The attributes of a snapshot.
const (
	createVolumePermission = "createVolumePermission"
	productCodes           = "productCodes"
)

type modifySnapshotAttributeInput struct {
	baseInput
	accountGrantees
	SnapshotID snapshotID              `query:"SnapshotId,required"`
	Attribute  string                  `query:"Attribute"`
	Operation  string                  `query:"OperationType"`
	Permission accountPermissionChange `query:"CreateVolumePermission"`
}

func (c *call) modifySnapshotAttribute(in *modifySnapshotAttributeInput) (*done, error) {
	if in.Attribute != "" && in.Attribute != createVolumePermission {
		return nil, badAttribute(in.Attribute)
	}
	ch, err := readChange(in.Operation, grantees{accountGrantees: in.accountGrantees}, in.Permission.change())
	if err == nil && ch.Add.Public {
		err = c.mayPublishSnapshots()
	}
	if err != nil {
		return nil, err
	}
	_, err = c.st.ShareSnapshot(c.caller, string(in.SnapshotID), ch, in.DryRun)
	return succeeded(err)
}

type describeSnapshotAttributeInput struct {
	baseInput
	SnapshotID snapshotID `query:"SnapshotId,required"`
	Attribute  string     `query:"Attribute,required"`
}

type describeSnapshotAttributeOutput struct {
	baseResponse
	SnapshotID string                `xml:"snapshotId"`
	Permission *set[permissionItem]  `xml:"createVolumePermission"`
	Products   *set[productCodeItem] `xml:"productCodes"`
}

func (c *call) describeSnapshotAttribute(in *describeSnapshotAttributeInput) (*describeSnapshotAttributeOutput, error) {
	found, err := c.snapshots(&describeSnapshotsInput{IDs: []snapshotID{in.SnapshotID}})
	if err != nil {
		return nil, err
	}
	s := found[0]
	if s.Account != c.caller.Account {
		return nil, c.notOwner("snapshot", s.ID)
	}
	out := &describeSnapshotAttributeOutput{SnapshotID: s.ID}
	switch in.Attribute {
	case createVolumePermission:
		out.Permission = permissionSet(s.CreateVolume)
	case productCodes:
		out.Products = productCodeSet(s.ProductCodes)
	default:
		return nil, badAttribute(in.Attribute)
	}
	return out, nil
}

func badAttribute(name string) error {
	return query.Refuse("InvalidParameterValue", "Value (%s) for parameter attribute is invalid. Unknown attribute.", name)
}

// notOwner returns the error for an attribute that only the owner of a resource may read.
func (c *call) notOwner(resource, id string) error {
	return fromState(&state.Error{
		Kind: state.NotAllowed, Resource: resource, ID: id,
		Message: fmt.Sprintf("account %s is not its owner", c.caller.Account),
	})
}

// productCodeItem is a product code in a response.
type productCodeItem struct {
	Code string `xml:"productCode"`
	Type string `xml:"type"`
}

func productCodeSet(codes []string) *set[productCodeItem] {
	out := convert(codes, func(code string) productCodeItem {
		return productCodeItem{Code: code, Type: "marketplace"}
	})
	return &out
}
