package state_test

import (
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/packer-chroot/packer-plugin-chroot/loopcloud/state"
)

func TestMatch(t *testing.T) {
	for _, test := range []struct {
		pattern, value string
		want           bool
	}{
		{"", "", true},
		{"", "a", false},
		{"a", "a", true},
		{"a", "A", false},
		{"*", "", true},
		{"*", "anything", true},
		{"?", "", false},
		{"?", "a", true},
		{"?", "é", true},
		{"*??", "é", false},
		{"*??xy", "€xy", false},
		{"ubuntu/*-server-*", "ubuntu/bionic-amd64-server-20200101", true},
		{"ubuntu/*-server-*", "ubuntu/bionic-amd64-desktop", false},
		{"a*b*c", "a-b-b-c", true},
		{"a*b*c", "a-b-b", false},
		{`\*`, "*", true},
		{`\*`, "x", false},
		{`a\?`, "a?", true},
		{`\\`, `\`, true},
		{`\`, `\`, true},
		{"[a]", "a", false},
		{"**a", "ba", true},
	} {
		if got := state.Match([]string{test.pattern}, test.value); got != test.want {
			t.Errorf("Match(%q, %q) is %v", test.pattern, test.value, got)
		}
	}
	if !state.Match([]string{"x", "b*"}, "a", "bc") {
		t.Error("any value may match any pattern")
	}
	if state.Match(nil, "a") || state.Match([]string{"*"}) {
		t.Error("no pattern, or no value, matches nothing")
	}
}

// plainMatch implements Match for one pattern directly from its definition.
func plainMatch(pattern, value string) bool {
	if pattern == "" {
		return value == ""
	}
	rest := pattern[1:]
	switch pattern[0] {
	case '*':
		for i := range value {
			if plainMatch(rest, value[i:]) {
				return true
			}
		}
		return plainMatch(rest, "")
	case '?':
		_, size := utf8.DecodeRuneInString(value)
		return size > 0 && plainMatch(rest, value[size:])
	case '\\':
		if rest != "" {
			pattern, rest = rest, rest[1:]
		}
	}
	return strings.HasPrefix(value, pattern[:1]) && plainMatch(rest, value[1:])
}

func FuzzMatch(f *testing.F) {
	for _, s := range []string{"", "*", "a*b", `\*?`, "*??xy", "é*"} {
		f.Add(s, "a€xyb")
	}
	f.Fuzz(func(t *testing.T, pattern, value string) {
		if len(pattern) > 20 || len(value) > 40 || !utf8.ValidString(pattern) || !utf8.ValidString(value) {
			return
		}
		if got, want := state.Match([]string{pattern}, value), plainMatch(pattern, value); got != want {
			t.Errorf("Match(%q, %q) is %v", pattern, value, got)
		}
	})
}
