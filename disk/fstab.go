package disk

import (
	"path"
	"strconv"
	"strings"
)

// FstabEntry is a line of an fstab; fstab(5).
type FstabEntry struct {
	Spec, Target, Type string
	Options            []string
}

// ParseFstab parses an fstab. Lines that are not entries are left out: the text is an
// image's, and may be anything.
func ParseFstab(text string) []FstabEntry {
	var entries []FstabEntry
	for line := range strings.Lines(text) {
		f := strings.Fields(line)
		if len(f) < 3 || strings.HasPrefix(f[0], "#") {
			continue
		}
		e := FstabEntry{Spec: unescape(f[0]), Target: unescape(f[1]), Type: f[2]}
		if len(f) > 3 {
			e.Options = strings.Split(unescape(f[3]), ",")
		}
		if path.IsAbs(e.Target) {
			e.Target = path.Clean(e.Target)
		}
		entries = append(entries, e)
	}
	return entries
}

// unescape decodes \040 and similar sequences, which stand for blanks in an fstab.
func unescape(s string) string {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '\\' && i+4 <= len(s) {
			if n, err := strconv.ParseUint(s[i+1:i+4], 8, 8); err == nil {
				b.WriteByte(byte(n))
				i += 3
				continue
			}
		}
		b.WriteByte(s[i])
	}
	return b.String()
}

// option returns the value of an option such as subvol=@.
func (e FstabEntry) option(name string) (string, bool) {
	for _, o := range e.Options {
		if value, ok := strings.CutPrefix(o, name+"="); ok {
			return strings.Trim(value, `"`), true
		}
	}
	return "", false
}

// has reports whether an option is given, alone or with a value.
func (e FstabEntry) has(name string) bool {
	for _, o := range e.Options {
		if o == name || strings.HasPrefix(o, name+"=") {
			return true
		}
	}
	return false
}
