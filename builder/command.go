package builder

import (
	"fmt"
	"io"
	"os"
	"slices"

	"github.com/packer-chroot/packer-plugin-chroot/version"
)

const commandUsage = `Usage: %[1]s COMMAND

The Packer plugin with the builder %[2]s. Packer starts it, and finds it if it is
installed by "packer plugins install" or named by "packer plugins required".

Commands for people:

  reap       clean up after builds of this host that were killed or that failed to
             clean up; "%[1]s reap --help" lists its options
  version    print the version
  help       print this text

Commands for Packer:

  describe   print what the plugin has, as JSON
  start      serve a builder; standard output is the channel to Packer
`

// speaksToPacker are the commands that Packer gives.
var speaksToPacker = []string{"describe", "start"}

// MaybeAnswer returns a command of a person, or refuses one that does not exist, and then
// does not return. A plugin calls it before it speaks to Packer.
func (p Plugin) MaybeAnswer() {
	if status, answered := p.answer(os.Args[1:], os.Stdout, os.Stderr); answered {
		os.Exit(status)
	}
}

// answer is MaybeAnswer without a process.
func (p Plugin) answer(args []string, stdout, stderr io.Writer) (status int, answered bool) {
	// Packer may give this flag before a command.
	args = slices.DeleteFunc(slices.Clone(args), func(arg string) bool { return arg == "--protobuf" })
	if len(args) == 0 {
		fmt.Fprintf(stderr, commandUsage, p.program(), p.Kind.Type)
		return ReapUsage, true
	}
	switch args[0] {
	case "help", "-h", "-help", "--help":
		fmt.Fprintf(stdout, commandUsage, p.program(), p.Kind.Type)
		return 0, true
	case "version", "-v", "-version", "--version":
		fmt.Fprintf(stdout, "%s %s\n", p.program(), version.Plugin.FormattedVersion())
		return 0, true
	}
	if slices.Contains(speaksToPacker, args[0]) {
		return 0, false
	}
	fmt.Fprintf(stderr, "%s: there is no command %q; --help lists the commands\n", p.program(), args[0])
	return ReapUsage, true
}
