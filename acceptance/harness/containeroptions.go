package harness

import (
	"errors"
	"fmt"
	"slices"
	"strings"
)

// Options are the options of a docker run command.
type Options struct {
	Capabilities, Devices, Rules, Volumes, Variables, Security []string
	Workdir                                                    string
	// Dropped are capabilities that the container does not have although it would by default.
	Dropped []string
	// Args are the program and its arguments.
	Args []string
}

// ParseDockerRun returns the options of a docker run command. Every option must be known.
func ParseDockerRun(command string) (Options, error) {
	words := shellWords(strings.ReplaceAll(command, "\\\n", " "))
	if len(words) < 2 || !slices.Equal(words[:2], []string{"docker", "run"}) {
		return Options{}, fmt.Errorf("not a docker run command: %q", command)
	}
	var o Options
	lists := map[string]*[]string{
		"--cap-add": &o.Capabilities, "--device": &o.Devices, "--device-cgroup-rule": &o.Rules, "--volume": &o.Volumes,
		"--env": &o.Variables, "--security-opt": &o.Security,
	}
	words = words[2:]
	for ; len(words) > 1 && strings.HasPrefix(words[0], "-"); words = words[1:] {
		list, ok := lists[words[0]]
		switch {
		case words[0] == "--rm":
			continue
		case words[0] == "--workdir":
			o.Workdir = words[1]
		case ok:
			*list = append(*list, words[1])
		default:
			return o, fmt.Errorf("unknown option %s", words[0])
		}
		words = words[1:]
	}
	if len(words) < 2 {
		return o, errors.New("the command has no image and program")
	}
	o.Args = words[1:]
	return o, nil
}

// shellWords splits a command at spaces outside of quotes.
func shellWords(command string) (words []string) {
	var word strings.Builder
	var quote rune
	begun := false
	end := func() {
		if begun {
			words = append(words, word.String())
		}
		word.Reset()
		begun = false
	}
	for _, r := range command {
		switch {
		case quote == 0 && strings.ContainsRune(" \t\n", r):
			end()
		case quote == 0 && (r == '\'' || r == '"'):
			quote, begun = r, true
		case r == quote:
			quote = 0
		default:
			word.WriteRune(r)
			begun = true
		}
	}
	end()
	return words
}
