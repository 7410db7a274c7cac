package procfs

import (
	"os"
	"testing"
)

func TestAncestors(t *testing.T) {
	s := Ancestors()
	if !s.Has(os.Getpid()) || !s.Has(os.Getppid()) || !s.Has(1) || s.Has(1<<30) {
		t.Errorf("the ancestors are %v", s)
	}
	s[os.Getpid()] = "long ago"
	if s.Has(os.Getpid()) {
		t.Error("another process with the id is an ancestor")
	}
}
