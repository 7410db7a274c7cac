package chroot

import (
	"slices"
	"strings"
	"testing"
)

func TestEnvironmentIsAnAllowList(t *testing.T) {
	shared := []string{
		"http_proxy=http://proxy:3128", "HTTPS_PROXY=http://proxy:3128", "NO_PROXY=a=b,c", "all_proxy=", "TERM=xterm", "LANG=C.UTF-8",
		"LC_ALL=C", "TZ=Europe/Paris", "PACKER_BUILD_NAME=x", "PACKER_HTTP_ADDR=y", "LISTED=one\ntwo",
	}
	kept := []string{
		"AWS_SECRET_ACCESS_KEY=s", "OSC_SECRET_KEY=s", "PYTHONHOME=/opt", "BASH_ENV=/etc/x", "APT_CONFIG=/etc/y", "HOSTNAME=build",
		"PACKER_PLUGIN_MAGIC_COOKIE=c", "PACKER_PLUGIN_PATH=/p", "LD_PRELOAD=/x.so", "TMPDIR=/t", "PATH=/host/bin", "HOME=/home/u",
		"USER=u", "SHELL=/bin/zsh", "SSH_AUTH_SOCK=/s", "LANGUAGES=x", "LISTED_TOO=x", "NAMELESS",
	}
	got := environment(slices.Concat(kept, shared), []string{"LISTED", "NAMELES", "UNSET"})
	want := slices.Concat(defaultVariables, shared)
	if !slices.Equal(got, want) {
		t.Errorf("the environment is %q, want %q", got, want)
	}
	if got := environment([]string{"PATH=/host/bin"}, []string{"PATH"}); !slices.Equal(got, append(slices.Clone(defaultVariables), "PATH=/host/bin")) {
		t.Errorf("with PATH listed the environment is %q", got)
	}
}

func TestVariablesOfTheWrapper(t *testing.T) {
	for wrapper, want := range map[string]string{
		"sudo ":                          "",
		"env WRAPPED=yes ":               "WRAPPED",
		"sudo A=1 b_2='x y' PATH=$PATH ": "A b_2",
		"sudo --user=root -E LD_LIBRARY_PATH=/x HOME=/h ": "",
		"/bin/sh -c \"export X=1;Y=2 exec \"":             "X Y",
	} {
		if got := strings.Join(assigned(wrapper), " "); got != want {
			t.Errorf("%q sets %q, want %q", wrapper, got, want)
		}
	}
}

func TestMergeEnvironment(t *testing.T) {
	got := mergeEnvironment([]string{"A=plugin", "B=plugin", "PATH=/bin"}, []string{"A=wrapper", "PATH=/usr/sbin", "SUDO_UID=7", "C=x=y"})
	want := []string{"B=plugin", "A=wrapper", "PATH=/usr/sbin", "C=x=y"}
	if !slices.Equal(got, want) {
		t.Errorf("the environment is %q, want %q", got, want)
	}
}
