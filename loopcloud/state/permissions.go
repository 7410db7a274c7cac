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

// allow reports whether an account that is not the owner has permission. The accounts of an
// organization are unknown, so organizations give permission to no account.
func (p Permissions) allow(account string) bool {
	return p.Public || slices.Contains(p.Accounts, account)
}

// changed returns the permissions after a change. Additions are applied first.
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

// changedSet returns a sorted set with some elements added and others removed.
func changedSet(set, add, remove []string) []string {
	out := slices.Concat(set, add)
	slices.Sort(out)
	out = slices.DeleteFunc(slices.Compact(out), func(s string) bool { return slices.Contains(remove, s) })
	if len(out) == 0 {
		return nil
	}
	return out
}
