package packages

// Package is an installed package.
type Package struct {
	// Manager is dpkg, rpm or apk.
	Manager       string
	Name, Version string
	// Arch is the architecture; empty if the database does not have it.
	Arch string
}

// List holds the packages of an image.
type List struct {
	Installed []Package
	// Databases are the paths of the files that were read.
	Databases []string
	// Problems are the reasons why databases could not be read.
	Problems []string
}

const (
	// mostPackages is the maximum number of packages of a database.
	mostPackages = 200_000
	// longestText is the maximum length of a name, a version or an architecture.
	longestText = 1024
	// mostText is the maximum size of a database that is text.
	mostText = 256 << 20
)

// valid reports whether the texts of a package are complete and have a plausible length.
func (p Package) valid() bool {
	return p.Name != "" && p.Version != "" && len(p.Name) <= longestText && len(p.Version) <= longestText && len(p.Arch) <= longestText
}
