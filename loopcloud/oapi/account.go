package oapi

import (
	"regexp"
	"slices"

	"github.com/packer-chroot/packer-plugin-chroot/loopcloud/state"
)

// accountID is what an account id looks like.
var accountID = regexp.MustCompile(`^[0-9]{12}$`)

type accountView struct {
	AccountID string `json:"AccountId"`
}

func (h *Handler) readAccounts(r request, p common) (answer, error) {
	if p.DryRun {
		return nil, errDryRun
	}
	return answer{"Accounts": []accountView{{r.caller.Account}}}, nil
}

// alias is an account's alias, if it has one.
func (h *Handler) alias(account string) string {
	accounts := h.state.Accounts()
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

// readRegions names this process as the endpoint of every region: it is.
func (h *Handler) readRegions(r request, p common) (answer, error) {
	if p.DryRun {
		return nil, errDryRun
	}
	views := []regionView{}
	for _, region := range h.state.Regions() {
		views = append(views, regionView{region.Name, r.host})
	}
	return answer{"Regions": views}, nil
}

type subregionView struct {
	RegionName    string `json:"RegionName"`
	SubregionName string `json:"SubregionName"`
	State         string `json:"State"`
}

type readSubregionsParams struct {
	paging
	Filters filters `json:"Filters"`
}

var subregionFilters = map[string]property[subregionView]{
	"RegionNames":    {text, one(func(v subregionView) string { return v.RegionName })},
	"SubregionNames": {text, one(func(v subregionView) string { return v.SubregionName })},
	"States":         {text, one(func(v subregionView) string { return v.State })},
}

// readSubregions lists those of the caller's region.
func (h *Handler) readSubregions(r request, p readSubregionsParams) (answer, error) {
	var views []subregionView
	for _, region := range h.state.Regions() {
		for _, zone := range region.Zones {
			if region.Name == r.caller.Region {
				views = append(views, subregionView{region.Name, zone, "available"})
			}
		}
	}
	views, err := selected(views, p.Filters, subregionFilters)
	if err != nil {
		return nil, err
	}
	return page(p.paging, "Subregions", views)
}

// permissions is with whom a thing is shared, as a request and an answer has it.
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

// change is what the state is asked for.
func (c permissionChange) change() (state.PermissionChange, error) {
	for _, id := range slices.Concat(c.Additions.AccountIDs, c.Removals.AccountIDs) {
		if !accountID.MatchString(id) {
			return state.PermissionChange{}, badValue.with("the value %q is no account id", id)
		}
	}
	return state.PermissionChange{
		Add:    state.Permissions{Public: c.Additions.GlobalPermission, Accounts: c.Additions.AccountIDs},
		Remove: state.Permissions{Public: c.Removals.GlobalPermission, Accounts: c.Removals.AccountIDs},
	}, nil
}
