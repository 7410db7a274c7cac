package state

import (
	"slices"
	"strings"
)

func (p Permissions) clone() Permissions {
	p.Accounts = slices.Clone(p.Accounts)
	p.Organizations = slices.Clone(p.Organizations)
	p.OrganizationalUnits = slices.Clone(p.OrganizationalUnits)
	return p
}

// allow tells whether an account that is not the owner is let in. Which accounts
// an organization has is not known here, so those let nobody in.
func (p Permissions) allow(account string) bool {
	return p.Public || slices.Contains(p.Accounts, account)
}

// changed is p with the change made: additions first.
func (p Permissions) changed(ch PermissionChange) (Permissions, error) {
	for _, account := range slices.Concat(ch.Add.Accounts, ch.Remove.Accounts) {
		if len(account) != 12 || strings.Trim(account, "0123456789") != "" {
			return p, refuse(Malformed, "account", account, "an account id has twelve digits")
		}
	}
	if ch.RemoveAll {
		p = Permissions{}
	}
	return Permissions{
		Public:              (p.Public || ch.Add.Public) && !ch.Remove.Public,
		Accounts:            changedSet(p.Accounts, ch.Add.Accounts, ch.Remove.Accounts),
		Organizations:       changedSet(p.Organizations, ch.Add.Organizations, ch.Remove.Organizations),
		OrganizationalUnits: changedSet(p.OrganizationalUnits, ch.Add.OrganizationalUnits, ch.Remove.OrganizationalUnits),
	}, nil
}

// changedSet is a sorted set with some added and some removed.
func changedSet(set, add, remove []string) []string {
	out := slices.Concat(set, add)
	slices.Sort(out)
	out = slices.DeleteFunc(slices.Compact(out), func(s string) bool { return slices.Contains(remove, s) })
	if len(out) == 0 {
		return nil
	}
	return out
}
