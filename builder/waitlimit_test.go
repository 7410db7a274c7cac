package builder

import (
	"strings"
	"testing"
	"time"
)

func TestWaitLimit(t *testing.T) {
	for _, test := range []struct {
		text string
		want time.Duration
		ok   bool
	}{
		{"", 0, true},
		{"90s", 90 * time.Second, true},
		{"1h30m", 90 * time.Minute, true},
		{"1s", time.Second, true},
		{"900ms", 0, false},
		{"-3m", 0, false},
		{"600", 0, false},
		{"for ever", 0, false},
	} {
		t.Setenv("PACKER_CHROOT_PATIENCE", test.text)
		got, err := readWaitLimit()
		if got != test.want || (err == nil) != test.ok {
			t.Errorf("%q: %v, %v", test.text, got, err)
		}
		if err != nil && (!strings.Contains(err.Error(), "PACKER_CHROOT_PATIENCE") || !strings.Contains(err.Error(), test.text)) {
			t.Errorf("%q is refused with %v", test.text, err)
		}
	}
}

func TestResponseLimit(t *testing.T) {
	for _, test := range []struct{ usual, waitLimit, want time.Duration }{
		{time.Minute, 0, time.Minute},
		{time.Minute, time.Hour, time.Minute},
		{time.Minute, 8 * time.Second, 2 * time.Second},
	} {
		if got := ResponseLimit(test.usual, test.waitLimit); got != test.want {
			t.Errorf("%v with the wait limit %v: %v", test.usual, test.waitLimit, got)
		}
	}
}
