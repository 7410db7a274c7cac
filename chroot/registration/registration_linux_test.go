package registration

import (
	"strings"
	"testing"
)

func TestParseFormat(t *testing.T) {
	for text, want := range map[string]format{
		"enabled\ninterpreter /interp\nflags: F\noffset 0\nmagic 41\n": {"name", "/interp", true},
		"enabled\ninterpreter /a b\nflags: POC\noffset 0\nmagic 41\n":  {"name", "/a b", false},
		"disabled\ninterpreter /usr/bin/q\nflags: OCF\nextension .F\n": {"name", "/usr/bin/q", true},
		"":                                 {"name", "", false},
		"interpreter /a\ninterpreter /b\n": {"name", "/a", false},
	} {
		if got := parseFormat("name", text); got != want {
			t.Errorf("%q: %+v, want %+v", text, got, want)
		}
	}
}

func TestParseProbe(t *testing.T) {
	for line, want := range map[string]probe{
		"p:lv/probe /bin/bash:0x0000000000001000":             {name: "lv/probe", path: "/bin/bash"},
		"r:a/b /a b:0x10:0x0000000000001000 arg1=%ax":         {name: "a/b", path: "/a b:0x10"},
		"p:a/b /bin/x:0x0000000000001000(0x0000000000002000)": {name: "a/b", path: "/bin/x"},
		"p /bin/bash:0x1000":                                  {},
		"p:a/b":                                               {},
		"":                                                    {},
	} {
		got, ok := parseProbe(line)
		got.line = ""
		if got != want || ok != (want.name != "") {
			t.Errorf("%q: %+v, %v, want %+v", line, got, ok, want)
		}
	}
}

// FuzzKernelLists parses lists that a kernel could have.
func FuzzKernelLists(f *testing.F) {
	f.Add("p:lv/probe /bin/bash:0x0000000000001000")
	f.Add("interpreter /interp\nflags: F")
	f.Fuzz(func(t *testing.T, text string) {
		if p, ok := parseProbe(text); ok && (p.path == "" || !strings.Contains(text, p.name)) {
			t.Errorf("%q is read as %+v", text, p)
		}
		if got := parseFormat("x", text); !strings.Contains(text, got.interpreter) {
			t.Errorf("%q is read as %+v", text, got)
		}
	})
}
