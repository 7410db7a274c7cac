package rendezvous

import (
	"fmt"
	"strings"
	"testing"
)

// TestTailIsCutAtWords checks that a wrapper's output is bounded, and begins with a whole
// line, or else a whole word, because a part of a secret would not be recognized.
func TestTailIsCutAtWords(t *testing.T) {
	long := strings.Repeat("x", tailSize)
	for name, test := range map[string]struct{ said, want string }{
		"all":                  {"one\ntwo\n", "one\ntwo"},
		"nothing":              {" \n", ""},
		"whole lines":          {"SECRET" + long[:tailSize-8] + "\nlast\n", "… last"},
		"one line":             {"SECRET" + long[:tailSize-8] + " last", "… last"},
		"one line with an end": {"SECRET" + long[:tailSize-8] + " last\n", "… last"},
		"one word":             {"SECRET" + long, "… "},
	} {
		t.Run(name, func(t *testing.T) {
			said := &tail{}
			fmt.Fprint(said, test.said[:len(test.said)/2])
			fmt.Fprint(said, test.said[len(test.said)/2:])
			if got := said.String(); got != test.want || len(got) > tailSize+len("… ") {
				t.Errorf("%q, want %q", got, test.want)
			}
		})
	}
}
