package mountoptions

import (
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

func TestParseOptions(t *testing.T) {
	tests := []struct {
		options []string
		flags   uintptr
		data    string
		errSays string
	}{
		{options: nil},
		{options: []string{"", "defaults", ",,"}},
		{options: []string{"ro,noatime", "nouuid"}, flags: unix.MS_RDONLY | unix.MS_NOATIME, data: "nouuid"},
		{options: []string{"ro", "rw"}},
		{options: []string{"nosuid,nodev,noexec,suid"}, flags: unix.MS_NODEV | unix.MS_NOEXEC},
		{options: []string{"subvol=@,compress=zstd"}, data: "subvol=@,compress=zstd"},
		{options: []string{"nofail,_netdev,x-systemd.automount,comment=mine,data=ordered"}, data: "data=ordered"},
		{options: []string{`context="system_u:object_r:tmp_t:s0:c1,c2",ro`}, flags: unix.MS_RDONLY, data: `context="system_u:object_r:tmp_t:s0:c1,c2"`},
		{options: []string{`context="open`}, errSays: "quote"},
		{options: []string{"ro,bind"}, errSays: `"bind"`},
		{options: []string{"loop"}, errSays: `"loop"`},
		{options: []string{"ROOT"}, data: "ROOT"},
	}
	for _, test := range tests {
		t.Run(strings.Join(test.options, " "), func(t *testing.T) {
			flags, data, err := Parse(test.options)
			if test.errSays != "" {
				if err == nil || !strings.Contains(err.Error(), test.errSays) {
					t.Errorf("error %v, want it to say %s", err, test.errSays)
				}
				return
			}
			if err != nil || flags != test.flags || data != test.data {
				t.Errorf("flags %#x, data %q, %v, want %#x, %q", flags, data, err, test.flags, test.data)
			}
		})
	}
}

// FuzzParseOptions verifies that the data for the file system stays the same when it is
// parsed again, and that no word of it is a flag.
func FuzzParseOptions(f *testing.F) {
	for _, seed := range []string{"", "ro,noatime", `a="b,c",d`, ",,,", "x-mount.mkdir,rw", `"`, "bind"} {
		f.Add(seed, "defaults")
	}
	f.Fuzz(func(t *testing.T, one, other string) {
		_, data, err := Parse([]string{one, other})
		if err != nil {
			return
		}
		flags, again, err := Parse([]string{data})
		if err != nil || flags != 0 || again != data {
			t.Errorf("%q became %#x and %q, %v", data, flags, again, err)
		}
	})
}
