//go:build linux

package main

import (
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/packer-chroot/packer-plugin-chroot/loopcloud"
	"github.com/packer-chroot/packer-plugin-chroot/loopcloud/state"
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

func TestSettingFlags(t *testing.T) {
	var cloud cloudFlags
	fs := newFlags("serve")
	cloud.register(fs)
	file := filepath.Join(testdir.New(t), "settings.json")
	if err := os.WriteFile(file, []byte(`[{"public_images":5},{"block_public_images":true}]`), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := fs.Parse([]string{"--dir", testdir.New(t), "--setting", "@" + file, "--setting", `{"encrypt_by_default":true}`}); err != nil {
		t.Fatal(err)
	}
	s, err := loopcloud.New(cloud.options())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	got := s.Cloud().Settings(state.Caller{Account: state.DefaultAccount, Region: s.Cloud().DefaultRegion()})
	if got.PublicImages != 5 || !got.BlockPublicImages || !got.EncryptByDefault {
		t.Errorf("the settings are %+v", got)
	}
	for text, why := range map[string]string{`{"encrypt":true}`: "encrypt", "@" + file + ".not": "cannot read the settings", "": "not a setting"} {
		if _, err := parseSettings(text); err == nil || !strings.Contains(err.Error(), why) {
			t.Errorf("%q: the error is %v", text, err)
		}
	}
}

// TestServedFaults checks that the faults in the flags are injected.
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
	s.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "http://127.0.0.1/latest/meta-data/", nil))
	if w.Code != http.StatusTeapot {
		t.Errorf("answered was %d", w.Code)
	}
	if got := runProgram(t, "run", "--fault", `{}`, "--", "true"); got.status != statusUsage {
		t.Errorf("a rule without an effect: %+v", got)
	}
}

// TestKeysOfFiles checks that keys on the command line, in files and in the environment are
// used, in this order.
func TestKeysOfFiles(t *testing.T) {
	file := filepath.Join(testdir.New(t), "keys")
	if err := os.WriteFile(file, []byte("# mine\n\n  AKIAF:in a file  \nAKIAG:b:111111111111"), 0o600); err != nil {
		t.Fatal(err)
	}
	var cloud cloudFlags
	fs := newFlags("serve")
	cloud.register(fs)
	if err := fs.Parse([]string{"--key", "AKIAC:given", "--key-file", file}); err != nil {
		t.Fatal(err)
	}
	if err := cloud.addKeysOf([]string{"HOME=/", "LOOPCLOUD_KEY=AKIAE:1\nAKIAF:2"}); err != nil {
		t.Fatal(err)
	}
	want := []state.Key{
		{ID: "AKIAC", Secret: "given"}, {ID: "AKIAF", Secret: "in a file"}, {ID: "AKIAG", Secret: "b", Account: "111111111111"},
		{ID: "AKIAE", Secret: "1"}, {ID: "AKIAF", Secret: "2"},
	}
	if !slices.Equal(cloud.keys, want) || cloud.options().PublicKeys {
		t.Errorf("the keys are %v", cloud.keys)
	}
	for text, why := range map[string]string{"": "no key", "# none": "no key", "a:b\nsecret": "line 2", "a:b:secret": "twelve digits", "a:b:c:secret": "line 1"} {
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := readKeys(file); err == nil || !strings.Contains(err.Error(), why) || !strings.Contains(err.Error(), file) || strings.Contains(err.Error(), "secret") {
			t.Errorf("%q: %v", text, err)
		}
	}
	if err := os.Chmod(file, 0o640); err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{{"serve", "--dir", "/none", "--key-file", file}, {"run", "--key-file", file + ".not", "--", "true"}} {
		if got := runProgram(t, args...); got.status != statusUsage || !strings.Contains(got.stderr, file) {
			t.Errorf("%q: %+v", args, got)
		}
	}
	cmd := programWith(t, "run", "--", "true")
	cmd.Env = append(cmd.Env, "LOOPCLOUD_KEY=malformed-secret")
	if got := outcomeOf(t, cmd); got.status != statusUsage || !strings.Contains(got.stderr, "LOOPCLOUD_KEY") || strings.Contains(got.stderr, "malformed-secret") {
		t.Errorf("a malformed variable: %+v", got)
	}
}

// TestKeysOfTheEnvironmentEndThere checks that the command gets one key pair, not all.
func TestKeysOfTheEnvironmentEndThere(t *testing.T) {
	cmd := programWith(t, "run", "--", "sh", "-c", `echo "$AWS_ACCESS_KEY_ID $AWS_SECRET_ACCESS_KEY ${LOOPCLOUD_KEY-none} ${#LOOPCLOUD_TOKEN}"`)
	cmd.Env = append(cmd.Env, "LOOPCLOUD_KEY=AKIAE:1\nAKIAF:2")
	if got := outcomeOf(t, cmd); got.status != 0 || got.stdout != "AKIAE 1 none 64\n" {
		t.Errorf("the command has %+v", got)
	}
}

func FuzzKeys(f *testing.F) {
	f.Add("# comment\nAKIA:secret\n\nAKIB:secret:123456789012")
	f.Add("a:b:c:d")
	f.Fuzz(func(t *testing.T, text string) {
		keys, err := parseKeys(text)
		if err != nil && keys != nil {
			t.Errorf("%v, and yet there are keys: %v", err, keys)
		}
		for _, key := range keys {
			if key.ID == "" || key.Secret == "" || key.Account != "" && len(key.Account) != 12 || strings.Contains(key.ID+key.Secret, "\n") {
				t.Errorf("%q holds the key %+v", text, key)
			}
		}
	})
}

func TestAllowedHosts(t *testing.T) {
	running := serve(t, testdir.New(t), "--allow-host", "build-host.example.com", "--allow-host", "other")
	for host, want := range map[string]int{"build-host.example.com:1": http.StatusOK, "OTHER": http.StatusOK, "page.example": http.StatusForbidden} {
		r, err := http.NewRequest(http.MethodGet, running.endpoint+"/latest/meta-data/", http.NoBody)
		if err != nil {
			t.Fatal(err)
		}
		r.Host = host
		resp, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode != want {
			t.Errorf("%s is answered with %s", host, resp.Status)
		}
	}
	if got := runProgram(t, "serve", "--dir", testdir.New(t), "--allow-host", "http://x:1"); got.status != statusUsage || !strings.Contains(got.stderr, "without a port") {
		t.Errorf("an address as a name: %+v", got)
	}
}
