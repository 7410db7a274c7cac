package selinux

import (
	"slices"
	"testing"
)

func TestReadSELinux(t *testing.T) {
	for config, want := range map[string]Contexts{
		"":                                       {},
		"SELINUX=enforcing\nSELINUXTYPE=mls\n":   {Mode: "enforcing", Policy: "mls"},
		"# SELINUX=disabled\nSELINUX=Permissive": {Mode: "permissive", Policy: "targeted"},
		"SELINUX= enforcing \r\nSELINUX=disabled\n":     {Mode: "enforcing", Policy: "targeted"},
		"SELINUX=disabled\nSELINUX=enforcing\n":         {},
		"SELINUXTYPE=../x\nSELINUX=enforcing\n":         {Mode: "enforcing", Policy: "targeted"},
		"SELINUX=sometimes\nSELINUX_X=y\nSELINUXTYPE=t": {},
	} {
		if got := parseConfig(config); got != want {
			t.Errorf("%q: %+v, want %+v", config, got, want)
		}
	}
}

func FuzzReadSELinux(f *testing.F) {
	f.Add("SELINUX=enforcing\nSELINUXTYPE=targeted\n")
	f.Add("SELINUX=permissive\r\nSELINUXTYPE=../..\n")
	f.Fuzz(func(t *testing.T, config string) {
		l := parseConfig(config)
		if !slices.Contains([]string{"", "enforcing", "permissive"}, l.Mode) || l.Mode != "" && !policyName.MatchString(l.Policy) {
			t.Errorf("%q: %+v", config, l)
		}
	})
}
