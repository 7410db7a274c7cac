package chroot

import (
	"encoding/base64"
	"fmt"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// enterArg is the first argument of this program when it is to enter a root.
const enterArg = "enter-chroot"

// cannotEnter is the exit status when that fails; shells say 126 when they find a
// command and cannot run it.
const cannotEnter = 126

// entrance is what the second argument holds. It is written in letters that no
// shell and no template of a wrapper can misunderstand, so that a provisioner's
// command arrives byte for byte.
type entrance struct {
	// root is where the root is mounted; line is for its shell.
	root, line string
}

// MaybeEnter makes this process a shell in a root, if that is what it was started
// for, and then does not return. Every program that runs commands in a chroot
// calls it before anything else.
func MaybeEnter() {
	if len(os.Args) != 3 || os.Args[1] != enterArg {
		return
	}
	fmt.Fprintln(os.Stderr, enter(os.Args[2]))
	os.Exit(cannotEnter)
}

// enter returns only with an error.
func enter(arg string) error {
	e, err := readEntrance(arg)
	if err != nil {
		return err
	}
	if err := unix.Chroot(e.root); err != nil {
		return fmt.Errorf("cannot enter %s: %w", e.root, err)
	}
	if err := os.Chdir("/"); err != nil {
		return err
	}
	err = unix.Exec(shell, []string{shell, "-c", e.line}, environment(os.Environ()))
	return fmt.Errorf("cannot run %s in %s: %w", shell, e.root, err)
}

// command is how a shell starts this program to enter the root.
func (e entrance) command() (string, error) {
	program, err := os.Executable()
	if err != nil {
		return "", err
	}
	return quote(program) + " " + enterArg + " " + e.arg(), nil
}

func (e entrance) arg() string {
	letters := base64.RawURLEncoding
	return letters.EncodeToString([]byte(e.root)) + "." + letters.EncodeToString([]byte(e.line))
}

func readEntrance(arg string) (entrance, error) {
	letters := base64.RawURLEncoding
	first, second, _ := strings.Cut(arg, ".")
	root, err := letters.DecodeString(first)
	if err != nil {
		return entrance{}, fmt.Errorf("%s: %w", enterArg, err)
	}
	line, err := letters.DecodeString(second)
	if err != nil {
		return entrance{}, fmt.Errorf("%s: %w", enterArg, err)
	}
	return entrance{string(root), string(line)}, nil
}

// quote makes a word of the host's shell. A plain word stays plain, for a wrapper
// may quote in its own way.
func quote(word string) string {
	plain := func(r rune) bool {
		return r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("/._-+:@%", r)
	}
	if word != "" && strings.TrimFunc(word, plain) == "" {
		return word
	}
	return "'" + strings.ReplaceAll(word, "'", `'\''`) + "'"
}
