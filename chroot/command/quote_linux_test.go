package command

import "testing"

func TestQuote(t *testing.T) {
	for word, want := range map[string]string{
		"":                       "''",
		"/usr/bin/packer-plugin": "/usr/bin/packer-plugin",
		"/opt/my plugins/x":      "'/opt/my plugins/x'",
		"it's":                   `'it'\''s'`,
		"a;b":                    "'a;b'",
		"$(id)":                  "'$(id)'",
	} {
		if got := Quote(word); got != want {
			t.Errorf("%q is quoted as %s, want %s", word, got, want)
		}
	}
}
