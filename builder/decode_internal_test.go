package builder

import "testing"

// TestDistance counts the letters that differ.
func TestDistance(t *testing.T) {
	for _, test := range []struct {
		a, b string
		want int
	}{
		{"", "", 0}, {"", "ab", 2}, {"ab", "", 2}, {"ab", "ab", 0}, {"souce_ami", "source_ami", 1}, {"kitten", "sitting", 3}, {"ab", "ba", 2},
	} {
		if got := distance(test.a, test.b); got != test.want {
			t.Errorf("from %q to %q it is %d, want %d", test.a, test.b, got, test.want)
		}
	}
}

// FuzzPlainly checks that every message of the decoder results in one message with the same
// name.
func FuzzPlainly(f *testing.F) {
	for _, seed := range []string{
		"'a' expected type 'int64', got unconvertible type '[]interface {}', value: '[a]'", `unknown configuration key: '"a[0].b"'`,
		"cannot parse 'a' as int: strconv.ParseInt: parsing \"ten\": invalid syntax", "'a' expected a map, got 'string'", "'' '",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		if got := plainly(text, nil); got == "" && text != "" {
			t.Errorf("%q became nothing", text)
		}
	})
}
