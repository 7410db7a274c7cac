package chroot

import (
	"regexp"
	"slices"
	"strings"
)

// defaultVariables are the variables of every command in a root. They do not depend on the host.
var defaultVariables = []string{
	"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
	"HOME=/root", "USER=root", "LOGNAME=root", "SHELL=/bin/sh",
}

// sharedVariables are those of the host that every command in a root gets, and
// sharedPrefixes begin the names of others. curl(1) and others read the proxies in
// lower case, many programs in upper case.
var (
	sharedVariables = []string{
		"http_proxy", "https_proxy", "ftp_proxy", "all_proxy", "no_proxy",
		"HTTP_PROXY", "HTTPS_PROXY", "FTP_PROXY", "ALL_PROXY", "NO_PROXY",
		"TERM", "TZ", "LANG", "LANGUAGE",
	}
	sharedPrefixes = []string{"LC_", "PACKER_BUILD_", "PACKER_HTTP_"}
)

// environment returns the environment of a command in a root: the root's own
// variables, and those of the host that are shared, or that the user lists.
func environment(host, listed []string) []string {
	env := slices.Clone(defaultVariables)
	for _, entry := range host {
		name, _, _ := strings.Cut(entry, "=")
		if isShared(name) || slices.Contains(listed, name) {
			env = append(env, entry)
		}
	}
	return env
}

func isShared(name string) bool {
	return slices.Contains(sharedVariables, name) ||
		slices.ContainsFunc(sharedPrefixes, func(prefix string) bool { return strings.HasPrefix(name, prefix) })
}

// assignment is a variable that a shell command sets: for itself, or by env(1) or sudo(8).
var assignment = regexp.MustCompile(`(?:^|[\s;&|('"])([A-Za-z_][A-Za-z0-9_]*)=`)

// hostOnly are the variables that concern only the host, if a command_wrapper sets them: the
// paths of its programs, and the user. Commands in the root get those of defaultVariables.
var hostOnly = []string{"PATH", "HOME", "USER", "LOGNAME", "SHELL"}

// assigned returns the names of the variables that a command_wrapper sets for commands in the
// root. The paths of the host's libraries are left out, too.
func assigned(wrapper string) []string {
	var names []string
	for _, match := range assignment.FindAllStringSubmatch(wrapper, -1) {
		name := match[1]
		if !slices.Contains(hostOnly, name) && !strings.HasPrefix(name, "LD_") {
			names = append(names, name)
		}
	}
	return names
}

// mergeEnvironment returns the plugin's environment with the changes that the wrapper has
// made to it. The variables in which sudo describes itself are left out.
func mergeEnvironment(plugins, own []string) []string {
	own = slices.DeleteFunc(slices.Clone(own), func(entry string) bool { return strings.HasPrefix(entry, "SUDO_") })
	set := map[string]bool{}
	for _, entry := range own {
		name, _, _ := strings.Cut(entry, "=")
		set[name] = true
	}
	env := slices.DeleteFunc(slices.Clone(plugins), func(entry string) bool {
		name, _, _ := strings.Cut(entry, "=")
		return set[name]
	})
	return append(env, own...)
}
