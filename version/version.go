// Package version holds the version of the plugins.
package version

import "github.com/hashicorp/packer-plugin-sdk/version"

// The linker sets these variables in a release:
//
//	-ldflags "-X …/version.Version=1.2.3 -X …/version.Prerelease="
var (
	// Version is major.minor.patch.
	Version = "1.0.0"
	// Prerelease is empty for a release. Packer installs a binary from a path only
	// as a release or with the prerelease "dev".
	Prerelease = "dev"
)

// Plugin is the version that the plugins report to Packer.
var Plugin = version.NewPluginVersion(Version, Prerelease, "")
