package oapi

import (
	"fmt"
	"regexp"
	"slices"

	"github.com/packer-chroot/packer-plugin-chroot/loopcloud/state"
)

// accountID matches account IDs.
var accountID = regexp.MustCompile(`^[0-9]{12}$`)

type accountView struct {
	AccountID string `json:"AccountId"`
}

type readAccountsResponse struct {
	Accounts []accountView `json:"Accounts"`
	baseResponse
}

func (c *call) readAccounts(*baseRequest) (*readAccountsResponse, error) {
	return &readAccountsResponse{Accounts: []accountView{{c.caller.Account}}}, nil
}

// alias returns the alias of an account, "" if it has none.
func (c *call) alias(account string) string {
	accounts := c.st.Accounts()
	i := slices.IndexFunc(accounts, func(a state.Account) bool { return a.ID == account })
	if i < 0 {
		return ""
	}
	return accounts[i].Alias
}

type regionView struct {
	RegionName string `json:"RegionName"`
	Endpoint   string `json:"Endpoint"`
}

type readRegionsResponse struct {
	Regions []regionView `json:"Regions"`
	baseResponse
}

// readRegions returns this server as the endpoint of every region.
func (c *call) readRegions(*baseRequest) (*readRegionsResponse, error) {
	out := &readRegionsResponse{Regions: []regionView{}}
	for _, region := range c.st.Regions() {
		out.Regions = append(out.Regions, regionView{region.Name, c.host})
	}
	return out, nil
}

type subregionView struct {
	RegionName    string `json:"RegionName"`
	SubregionName string `json:"SubregionName"`
	LocationCode  string `json:"LocationCode"`
	State         string `json:"State"`
}

// locationCode returns the code of the physical zone of a subregion. Outscale assigns these to an
// account's subregions at random; the codes here are none of Outscale's.
func locationCode(subregion string) string {
	return fmt.Sprintf("LOC%d", subregion[len(subregion)-1]-'a'+1)
}

type readSubregionsResponse struct {
	nextPage
	baseResponse
	Subregions []subregionView `json:"Subregions"`
}

var subregionFilters = map[string]filter[subregionView]{
	"RegionNames":    {text, one(func(v subregionView) string { return v.RegionName })},
	"SubregionNames": {text, one(func(v subregionView) string { return v.SubregionName })},
	"States":         {text, one(func(v subregionView) string { return v.State })},
}

// readSubregions lists the subregions of the caller's region.
func (c *call) readSubregions(in *listRequest) (*readSubregionsResponse, error) {
	var views []subregionView
	for _, region := range c.st.Regions() {
		for _, zone := range region.Zones {
			if region.Name == c.caller.Region {
				views = append(views, subregionView{region.Name, zone, locationCode(zone), "available"})
			}
		}
	}
	subregions, next, err := list(in, subregionFilters, views)
	return &readSubregionsResponse{Subregions: subregions, nextPage: next}, err
}

// permissions are the accounts that a resource is shared with, in requests and responses.
type permissions struct {
	AccountIDs       []string `json:"AccountIds"`
	GlobalPermission bool     `json:"GlobalPermission"`
}

type permissionChange struct {
	Additions permissions `json:"Additions"`
	Removals  permissions `json:"Removals"`
}

func permissionsView(p state.Permissions) permissions {
	return permissions{AccountIDs: append([]string{}, p.Accounts...), GlobalPermission: p.Public}
}

// stateChange checks the account IDs of a change and returns the change for the state.
func (c permissionChange) stateChange() (state.PermissionChange, error) {
	for _, id := range slices.Concat(c.Additions.AccountIDs, c.Removals.AccountIDs) {
		if !accountID.MatchString(id) {
			return state.PermissionChange{}, badValue.with("the value %q is not an account ID", id)
		}
	}
	return state.PermissionChange{
		Add:    state.Permissions{Public: c.Additions.GlobalPermission, Accounts: c.Additions.AccountIDs},
		Remove: state.Permissions{Public: c.Removals.GlobalPermission, Accounts: c.Removals.AccountIDs},
	}, nil
}
