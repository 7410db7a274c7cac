package bake

import (
	"strings"
	"testing"

	"github.com/packer-chroot/packer-plugin-chroot/chroot"
)

func TestMissingContexts(t *testing.T) {
	for name, test := range map[string]struct {
		contexts chroot.SELinuxContexts
		says     []string
	}{
		"no SELinux":       {chroot.SELinuxContexts{}, nil},
		"all have labels":  {chroot.SELinuxContexts{Mode: "enforcing", Policy: "targeted"}, nil},
		"one has none":     {chroot.SELinuxContexts{Mode: "enforcing", Policy: "targeted", Unlabelled: "/etc/%d\n"}, []string{`"/etc/%d\n"`, "no SELinux label", "enforcing"}},
		"there are none":   {chroot.SELinuxContexts{Mode: "enforcing", Policy: "mls", Unlabelled: "/"}, []string{"it has no labels"}},
		"not all searched": {chroot.SELinuxContexts{Mode: "permissive", Policy: "targeted", Unsearched: true}, []string{"may have no labels", "permissive"}},
	} {
		got := missingContexts(test.contexts)
		if len(test.says) == 0 && got != "" {
			t.Errorf("%s: %q", name, got)
		}
		for _, text := range test.says {
			if !strings.Contains(got, text) {
				t.Errorf("%s: %q does not say %q", name, got, text)
			}
		}
	}
}
