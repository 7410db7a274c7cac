package builder

import (
	"fmt"
	"log"
	"os"
	"strings"
	"sync"
	"testing"
)

func TestSecretsAreRedacted(t *testing.T) {
	var s secrets
	s.add("inner", "", "the inner one", "inner")
	if got, want := s.strike("inner of the inner one, and the outer"), "<sensitive> of <sensitive>, and the outer"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
	if len(s.known) != 2 {
		t.Errorf("remembers %q", s.known)
	}
}

// locked lets several write.
type locked struct {
	mu   sync.Mutex
	text strings.Builder
}

func (l *locked) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

// TestSecretsThatComeWhileOthersLog checks that a value that is hidden before a line is logged
// is not in that line, while other goroutines log and hide values. Keys are renewed in the
// middle of a build.
func TestSecretsThatComeWhileOthersLog(t *testing.T) {
	var s secrets
	var to locked
	var all sync.WaitGroup
	for i := range 8 {
		logger := log.New(s.writer(&to), "", 0)
		all.Go(func() {
			for n := range 200 {
				secret := fmt.Sprintf("key-%d-%d.", i, n)
				s.add(secret)
				logger.Print("signed with ", secret)
			}
		})
	}
	all.Wait()
	if got, want := to.text.String(), strings.Repeat("signed with <sensitive>\n", 8*200); got != want {
		t.Errorf("%d bytes were logged, want %d", len(got), len(want))
	}
}

// TestSecretsOfTheEnvironment checks that secrets of the environment are hidden before
// anything uses them, and that short words are not.
func TestSecretsOfTheEnvironment(t *testing.T) {
	before := hidden.known
	t.Cleanup(func() { hidden.known = before })
	for _, name := range secretVariables {
		t.Setenv(name, "a secret of "+name)
	}
	t.Setenv("OSC_SECRET_KEY", "build")
	hideEnvironment()
	for _, name := range secretVariables {
		if name == "OSC_SECRET_KEY" {
			continue
		}
		if got := Redact("it is " + os.Getenv(name) + "."); got != "it is "+struckOut+"." {
			t.Errorf("%s: %q", name, got)
		}
	}
	if got := Redact("build"); got != "build" {
		t.Errorf("a word is hidden: %q", got)
	}
}
