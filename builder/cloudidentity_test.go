package builder

import (
	"net/http"
	"testing"
)

func TestIdentity(t *testing.T) {
	var i Identity
	for _, step := range []struct{ told, want string }{
		{"", ""}, {"short", ""}, {"ABCDEFGH", "ABCDEFGH"}, {"", "ABCDEFGH"}, {"ABCDEFGH\x1b[2J", "ABCDEFGH"}, {"HGFEDCBA", "HGFEDCBA"},
	} {
		header := http.Header{}
		header["Loopcloud-Id"] = []string{step.told}
		i.Note(header)
		if got := i.String(); got != step.want {
			t.Errorf("%q: %q, want %q", step.told, got, step.want)
		}
	}
}
