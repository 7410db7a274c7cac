//go:build linux

package main

import (
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/packer-chroot/packer-plugin-chroot/loopcloud"
	"github.com/packer-chroot/packer-plugin-chroot/testdir"
)

func TestFaultFlags(t *testing.T) {
	file := filepath.Join(testdir.New(t), "rules.json")
	if err := os.WriteFile(file, []byte(`[{"error":"throttled"},{"drop":"after"}]`), 0o600); err != nil {
		t.Fatal(err)
	}
	var cloud cloudFlags
	fs := newFlags("serve")
	cloud.register(fs)
	if err := fs.Parse([]string{"--fault", "@" + file, "--fault", `{"outcome":"never","action":"AttachVolume"}`, "--seed", "7"}); err != nil {
		t.Fatal(err)
	}
	if o := cloud.options(); len(o.Faults) != 3 || o.Faults[2].Outcome != "never" || o.Seed != 7 {
		t.Errorf("the options are %+v", o)
	}
	for text, why := range map[string]string{`{"eror":"throttled"}`: "eror", "@" + file + ".not": "cannot read the rules", "": "not a rule"} {
		if _, err := parseFaults(text); err == nil || !strings.Contains(err.Error(), why) {
			t.Errorf("%q: the error is %v", text, err)
		}
	}
}

// TestServedFaults: what the flags ask for goes wrong.
func TestServedFaults(t *testing.T) {
	var cloud cloudFlags
	fs := newFlags("serve")
	cloud.register(fs)
	if err := fs.Parse([]string{"--dir", testdir.New(t), "--fault", `{"dialect":"imds","status":418}`}); err != nil {
		t.Fatal(err)
	}
	s, err := loopcloud.New(cloud.options())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	w := httptest.NewRecorder()
	s.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/latest/meta-data/", nil))
	if w.Code != http.StatusTeapot {
		t.Errorf("answered was %d", w.Code)
	}
	if got := runProgram(t, "run", "--fault", `{}`, "--", "true"); got.status != statusUsage {
		t.Errorf("a rule without an effect: %+v", got)
	}
}
