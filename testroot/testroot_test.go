package testroot

import (
	"fmt"
	"testing"
)

// recorder records the end of a test.
type recorder struct {
	testing.TB
	end string
}

func (*recorder) Helper() {}

func (r *recorder) Fatalf(format string, args ...any) {
	r.end = "fails: " + fmt.Sprintf(format, args...)
}

func (r *recorder) Skipf(format string, args ...any) {
	r.end = "skips: " + fmt.Sprintf(format, args...)
}

func TestNeed(t *testing.T) {
	for _, test := range []struct {
		user int
		ci   bool
		end  string
	}{
		{0, false, ""},
		{0, true, ""},
		{1000, false, "skips: needs root: mounting"},
		{1000, true, "fails: needs root: mounting"},
	} {
		r := recorder{TB: t}
		if need(&r, "mounting", test.user, test.ci); r.end != test.end {
			t.Errorf("user %d, CI %v: %q, not %q", test.user, test.ci, r.end, test.end)
		}
	}
}
