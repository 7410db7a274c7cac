package mountoptions

import (
	"fmt"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// flag holds the flags of mount(2) that an option sets and clears.
type flag struct{ set, clear uintptr }

// flagOptions are the options that are flags of mount(2), for every type of file
// system. Source: mount(8), "filesystem-independent mount options".
var flagOptions = map[string]flag{
	"defaults":      {},
	"ro":            {set: unix.MS_RDONLY},
	"rw":            {clear: unix.MS_RDONLY},
	"nosuid":        {set: unix.MS_NOSUID},
	"suid":          {clear: unix.MS_NOSUID},
	"nodev":         {set: unix.MS_NODEV},
	"dev":           {clear: unix.MS_NODEV},
	"noexec":        {set: unix.MS_NOEXEC},
	"exec":          {clear: unix.MS_NOEXEC},
	"sync":          {set: unix.MS_SYNCHRONOUS},
	"async":         {clear: unix.MS_SYNCHRONOUS},
	"dirsync":       {set: unix.MS_DIRSYNC},
	"noatime":       {set: unix.MS_NOATIME},
	"atime":         {clear: unix.MS_NOATIME},
	"nodiratime":    {set: unix.MS_NODIRATIME},
	"diratime":      {clear: unix.MS_NODIRATIME},
	"relatime":      {set: unix.MS_RELATIME},
	"norelatime":    {clear: unix.MS_RELATIME},
	"strictatime":   {set: unix.MS_STRICTATIME},
	"nostrictatime": {clear: unix.MS_STRICTATIME},
	"lazytime":      {set: unix.MS_LAZYTIME},
	"nolazytime":    {clear: unix.MS_LAZYTIME},
	"silent":        {set: unix.MS_SILENT},
	"loud":          {clear: unix.MS_SILENT},
}

// forOthers are options for mount(8), systemd or fstab, which the kernel does not know.
var forOthers = []string{"auto", "noauto", "user", "nouser", "users", "nousers", "owner", "group", "nofail", "_netdev"}

// notForRoots are options that do not mount a file system.
var notForRoots = []string{
	"bind", "rbind", "move", "remount", "loop",
	"shared", "rshared", "slave", "rslave", "private", "rprivate", "unbindable", "runbindable",
}

// Parse splits mount options into flags and the data for the file system itself, such as
// nouuid. Each element of options may hold several, separated by commas.
func Parse(options []string) (flags uintptr, data string, err error) {
	var rest []string
	for _, list := range options {
		words, err := split(list)
		if err != nil {
			return 0, "", err
		}
		for _, word := range words {
			flag, ok := flagOptions[word]
			switch {
			case ok:
				flags = flags&^flag.clear | flag.set
			case slices.Contains(notForRoots, word):
				return 0, "", fmt.Errorf("mount option %q is not for the root of a chroot", word)
			case !ignored(word):
				rest = append(rest, word)
			}
		}
	}
	return flags, strings.Join(rest, ","), nil
}

// ignored reports whether an option is not for the kernel.
func ignored(word string) bool {
	return word == "" || slices.Contains(forOthers, word) || strings.HasPrefix(word, "x-") || strings.HasPrefix(word, "comment=")
}

// split splits at commas outside double quotes, which the labels of SELinux have.
func split(list string) ([]string, error) {
	var words []string
	quoted, begin := false, 0
	for i, c := range []byte(list) {
		switch {
		case c == '"':
			quoted = !quoted
		case c == ',' && !quoted:
			words = append(words, list[begin:i])
			begin = i + 1
		}
	}
	if quoted {
		return nil, fmt.Errorf("mount option %q has a quote that does not end", list)
	}
	return append(words, list[begin:]), nil
}
