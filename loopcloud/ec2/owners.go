package ec2

import (
	"reflect"
	"slices"
	"strings"

	"github.com/packer-chroot/packer-plugin-chroot/loopcloud/query"
	"github.com/packer-chroot/packer-plugin-chroot/loopcloud/state"
)

// everyone is the group of all accounts.
const everyone = "all"

// amazonAliases are the owner aliases of EC2. They are valid even if no account here has them.
var amazonAliases = []string{"amazon", "aws-marketplace", "aws-backup-vault"}

// aliasOf returns the alias of an account, such as amazon, "" if it has none.
func (c *call) aliasOf(account string) string {
	accounts := c.st.Accounts()
	i := slices.IndexFunc(accounts, func(a state.Account) bool { return a.ID == account })
	if i < 0 {
		return ""
	}
	return accounts[i].Alias
}

// owners returns the account IDs of owners (IDs, aliases, self). An alias without an account here
// stands for no account.
func (c *call) owners(names []string) ([]string, error) {
	var ids []string
	for _, name := range names {
		switch account := c.accountOf(name); {
		case account != "":
			ids = append(ids, account)
		case !slices.Contains(amazonAliases, name):
			return nil, query.Refuse("InvalidUserID.Malformed", "Invalid user id: %q", name)
		}
	}
	return ids, nil
}

// accountOf returns the account with a name, "" if there is none.
func (c *call) accountOf(name string) string {
	if name == "self" {
		return c.caller.Account
	}
	if isAccount(name) {
		return name
	}
	accounts := c.st.Accounts()
	i := slices.IndexFunc(accounts, func(a state.Account) bool { return name != "" && a.Alias == name })
	if i < 0 {
		return ""
	}
	return accounts[i].ID
}

// isAccount reports whether a text is an account ID: twelve digits.
func isAccount(id string) bool {
	return len(id) == 12 && strings.Trim(id, "0123456789") == ""
}

// accountGrantees lists the accounts and groups to share a resource with, or to stop sharing it
// with. It is one of the two forms in which requests give them.
type accountGrantees struct {
	Users  []string `query:"UserId"`
	Groups []string `query:"UserGroup"`
}

// grantees adds the organizations, with which only images can be shared.
type grantees struct {
	accountGrantees
	Organizations []string `query:"OrganizationArn"`
	Units         []string `query:"OrganizationalUnitArn"`
}

// accountPermission is the other form: an item with one of its fields set.
type accountPermission struct {
	UserID string `query:"UserId"`
	Group  string `query:"Group"`
}

// permission adds the organizations.
type permission struct {
	accountPermission
	Organization string `query:"OrganizationArn"`
	Unit         string `query:"OrganizationalUnitArn"`
}

// permissionChange is LaunchPermission of a request.
type permissionChange struct {
	Add    []permission `query:"Add"`
	Remove []permission `query:"Remove"`
}

// accountPermissionChange is CreateVolumePermission of a request.
type accountPermissionChange struct {
	Add    []accountPermission `query:"Add"`
	Remove []accountPermission `query:"Remove"`
}

// change returns the change as one without organizations.
func (p accountPermissionChange) change() permissionChange {
	return permissionChange{Add: permissionsOf(p.Add), Remove: permissionsOf(p.Remove)}
}

func permissionsOf(accounts []accountPermission) []permission {
	var out []permission
	for _, a := range accounts {
		out = append(out, permission{accountPermission: a})
	}
	return out
}

func (g grantees) nobody() bool {
	return len(g.Users)+len(g.Groups)+len(g.Organizations)+len(g.Units) == 0
}

func (p permissionChange) isEmpty() bool { return len(p.Add)+len(p.Remove) == 0 }

// granteesOf returns the grantees in the items of a permission.
func granteesOf(items []permission) grantees {
	var g grantees
	for _, item := range items {
		g.Users = appendGiven(g.Users, item.UserID)
		g.Groups = appendGiven(g.Groups, item.Group)
		g.Organizations = appendGiven(g.Organizations, item.Organization)
		g.Units = appendGiven(g.Units, item.Unit)
	}
	return g
}

func appendGiven(to []string, value string) []string {
	if value == "" {
		return to
	}
	return append(to, value)
}

// permissions returns the grantees as permissions, or an error if they are invalid.
func (g grantees) permissions() (state.Permissions, error) {
	for _, user := range g.Users {
		if !isAccount(user) {
			return state.Permissions{}, badItem(user, "userId")
		}
	}
	for _, group := range g.Groups {
		if group != everyone {
			return state.Permissions{}, badItem(group, "userGroup")
		}
	}
	for _, arn := range slices.Concat(g.Organizations, g.Units) {
		if !strings.HasPrefix(arn, "arn:") || !strings.Contains(arn, ":organizations:") {
			return state.Permissions{}, badItem(arn, "organization")
		}
	}
	return state.Permissions{
		Public: len(g.Groups) > 0, Accounts: g.Users,
		Organizations: g.Organizations, OrganizationalUnits: g.Units,
	}, nil
}

func badItem(value, kind string) error {
	return query.Refuse("InvalidAMIAttributeItemValue", "Invalid attribute item value %q for %s item type.", value, kind)
}

// matches reports whether the change adds or removes the same grantees as the other form does.
func (p permissionChange) matches(operation string, g grantees) bool {
	if operation == "remove" {
		return len(p.Add) == 0 && reflect.DeepEqual(granteesOf(p.Remove), g)
	}
	return len(p.Remove) == 0 && reflect.DeepEqual(granteesOf(p.Add), g)
}

// readChange returns the change in either form. A request uses one of them, or has the same
// change in both, as Packer's public builders do.
func readChange(operation string, g grantees, p permissionChange) (state.PermissionChange, error) {
	switch {
	case !g.nobody() && !p.isEmpty() && !p.matches(operation, g):
		return state.PermissionChange{}, query.Refuse("InvalidParameterCombination", "Both forms of an attribute's items cannot be used at once")
	case !p.isEmpty():
		return changeOf(granteesOf(p.Add), granteesOf(p.Remove))
	case g.nobody():
		return state.PermissionChange{}, query.Refuse("MissingParameter", "The request must contain the items to add or remove")
	case operation == "add":
		return changeOf(g, grantees{})
	case operation == "remove":
		return changeOf(grantees{}, g)
	case operation == "":
		return state.PermissionChange{}, query.Refuse("MissingParameter", "The request must contain the parameter OperationType")
	}
	return state.PermissionChange{}, query.Refuse("InvalidParameterValue", "Value (%s) for parameter operationType is invalid.", operation)
}

func changeOf(add, remove grantees) (out state.PermissionChange, err error) {
	if out.Add, err = add.permissions(); err != nil {
		return out, err
	}
	out.Remove, err = remove.permissions()
	return out, err
}

// permissionItem is a grantee in a response.
type permissionItem struct {
	UserID       string `xml:"userId,omitempty"`
	Group        string `xml:"group,omitempty"`
	Organization string `xml:"organizationArn,omitempty"`
	Unit         string `xml:"organizationalUnitArn,omitempty"`
}

// permissionSet returns the grantees of a resource.
func permissionSet(p state.Permissions) *set[permissionItem] {
	out := &set[permissionItem]{}
	if p.Public {
		out.Items = append(out.Items, permissionItem{Group: everyone})
	}
	for _, id := range p.Accounts {
		out.Items = append(out.Items, permissionItem{UserID: id})
	}
	for _, arn := range p.Organizations {
		out.Items = append(out.Items, permissionItem{Organization: arn})
	}
	for _, arn := range p.OrganizationalUnits {
		out.Items = append(out.Items, permissionItem{Unit: arn})
	}
	return out
}
