package builder_test

import (
	"strings"
	"testing"
)

func TestImageNames(t *testing.T) {
	for name, want := range map[string]string{
		"":                       "is required",
		"ab":                     `"ab" has 2 characters, but must have 3 to 128`,
		"abc":                    "",
		strings.Repeat("a", 128): "",
		strings.Repeat("a", 129): "129 characters",
		"a b c":                  "",
		"abc1":                   "small letters and spaces",
		"abc\n":                  "small letters and spaces",
	} {
		err := kind.CheckName("x_name", name)
		if (err == nil) != (want == "") {
			t.Errorf("%q: %v", name, err)
		} else if err != nil {
			mustContain(t, err.Error(), "x_name", want)
		}
	}
}
