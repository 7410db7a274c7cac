package report

import (
	"cmp"
	"slices"

	"github.com/packer-chroot/packer-plugin-chroot/event"
)

// packages records the packages of the image at one time.
func (r *Recorder) packages(e event.Packages) {
	if e.After {
		r.after = &e
	} else {
		r.before = &e
	}
}

// identity identifies a package in different versions.
type identity struct{ manager, name, arch string }

// compare returns the changes of packages; nil if they were never listed. They are only compared if
// all databases could be read both times.
func compare(before, after *event.Packages) *Packages {
	if before == nil && after == nil {
		return nil
	}
	result := &Packages{}
	for _, list := range []*event.Packages{before, after} {
		if list != nil {
			result.Databases = append(result.Databases, list.Databases...)
			result.Problems = append(result.Problems, list.Problems...)
		}
	}
	slices.Sort(result.Databases)
	result.Databases = slices.Compact(result.Databases)
	if before != nil {
		result.Before = len(before.Installed)
	}
	if after != nil {
		result.After = len(after.Installed)
	}
	if before != nil && after != nil && len(result.Problems) == 0 {
		result.Compared = true
		result.differences(byIdentity(before.Installed), byIdentity(after.Installed))
	}
	return result
}

// byIdentity returns the versions of packages. Some, such as kernels, are installed in several.
func byIdentity(list []event.Package) map[identity][]string {
	all := map[identity][]string{}
	for _, p := range list {
		id := identity{p.Manager, p.Name, p.Arch}
		all[id] = append(all[id], p.Version)
	}
	return all
}

// differences adds the differences between two lists. A package with one version that has gone and one
// that is new has changed.
func (p *Packages) differences(before, after map[identity][]string) {
	for id, versions := range after {
		fresh, gone := without(versions, before[id]), without(before[id], versions)
		for len(fresh) > 0 && len(gone) > 0 {
			p.Changed = append(p.Changed, PackageChange{id.manager, id.name, id.arch, gone[0], fresh[0]})
			fresh, gone = fresh[1:], gone[1:]
		}
		for _, version := range fresh {
			p.Added = append(p.Added, Package{id.manager, id.name, id.arch, version})
		}
		for _, version := range gone {
			p.Removed = append(p.Removed, Package{id.manager, id.name, id.arch, version})
		}
	}
	for id, versions := range before {
		if _, stays := after[id]; stays {
			continue
		}
		for _, version := range versions {
			p.Removed = append(p.Removed, Package{id.manager, id.name, id.arch, version})
		}
	}
	p.sort()
}

// sort sorts all lists by name.
func (p *Packages) sort() {
	byName := func(a, b Package) int {
		return cmp.Or(cmp.Compare(a.Name, b.Name), cmp.Compare(a.Arch, b.Arch), cmp.Compare(a.Version, b.Version))
	}
	slices.SortFunc(p.Added, byName)
	slices.SortFunc(p.Removed, byName)
	slices.SortFunc(p.Changed, func(a, b PackageChange) int {
		return cmp.Or(cmp.Compare(a.Name, b.Name), cmp.Compare(a.Arch, b.Arch), cmp.Compare(a.After, b.After))
	})
}

// without returns the texts that are not in another list, in order.
func without(list, other []string) []string {
	left := slices.Clone(other)
	var rest []string
	for _, text := range list {
		if i := slices.Index(left, text); i >= 0 {
			left = slices.Delete(left, i, i+1)
			continue
		}
		rest = append(rest, text)
	}
	slices.Sort(rest)
	return rest
}
