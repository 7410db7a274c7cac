package harness

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// Cloud is the loopcloud of one test.
type Cloud struct {
	*Host
	// Store is loopcloud's --dir.
	Store    string
	Endpoint string
	Cmd      *exec.Cmd
	// Output is the output of loopcloud.
	Output *bytes.Buffer
}

// Elsewhere is a second region.
const Elsewhere = "us-east-1"

// GoOn ends all faults and lets held calls continue.
func (b *Cloud) GoOn() {
	b.Helper()
	b.Control(http.MethodDelete, "faults", nil, nil)
	b.Control(http.MethodDelete, "held", nil, nil)
}

// The key pair, the region and the source image of every test cloud.
const (
	KeyID  = "AKIAACCEPTANCE000000"
	Secret = "acceptance/secret"
	Region = "eu-west-2"
	// SourceID is the image that every test cloud starts with.
	SourceID = "ami-e81d5881"
)

// ImportSource creates the store of a cloud with the source image. A copy takes a tenth of the time of an import.
func (b *Cloud) ImportSource() {
	b.Helper()
	b.Must(os.MkdirAll(filepath.Dir(b.Store), 0o755))
	b.Must(Run("cp", "-a", "--sparse=always", "-T", Programs.Store, b.Store))
}

// Serve starts loopcloud.
func (b *Cloud) Serve(args ...string) {
	b.Helper()
	args = append([]string{"serve", "--dir", b.Store, "--listen", "127.0.0.1:0", "--key", KeyID + ":" + Secret}, args...)
	b.Must(b.start(args...))
}

// start starts loopcloud and waits until it listens.
func (b *Cloud) start(args ...string) error {
	b.Cmd = exec.Command(Programs.Loopcloud, args...)
	lines := &lineWatch{prefix: "loopcloud: listening on ", found: make(chan string, 1), all: b.Output}
	b.Cmd.Stderr = lines
	if err := b.Cmd.Start(); err != nil {
		return err
	}
	select {
	case b.Endpoint = <-lines.found:
		return nil
	case <-time.After(Deadline):
		return fmt.Errorf("loopcloud is not ready:\n%s", b.Output)
	}
}

// Stop ends the box's loopcloud, if it runs, so that its directory does not change.
func (b *Cloud) Stop() {
	b.Helper()
	if b.Cmd == nil {
		return
	}
	_ = b.Cmd.Process.Signal(os.Interrupt)
	if err := b.Cmd.Wait(); err != nil {
		b.Errorf("loopcloud: %v\n%s", err, b.Output)
	}
	b.Cmd = nil
	b.Output.Reset()
}

// Loopcloud runs a loopcloud command and returns its standard output.
func (b *Cloud) Loopcloud(args ...string) string {
	b.Helper()
	cmd := exec.Command(Programs.Loopcloud, args...)
	if slices.Contains(args, "--endpoint") {
		cmd.Env = append(os.Environ(), "LOOPCLOUD_TOKEN="+b.Token())
	}
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		b.Fatalf("loopcloud %s: %v\n%s", strings.Join(args, " "), err, stderr.Bytes())
	}
	return strings.TrimSpace(string(out))
}

// Call is a request that loopcloud has served.
type Call struct {
	Dialect string `json:"dialect"`
	Action  string `json:"action"`
	Status  int    `json:"status"`
}

// Token is the token of the control interface.
func (b *Cloud) Token() string {
	b.Helper()
	text, err := os.ReadFile(filepath.Join(b.Store, "token"))
	b.Must(err)
	return strings.TrimSpace(string(text))
}

// Control makes a request of loopcloud's control interface.
func (b *Cloud) Control(method, path string, body, answer any) {
	b.Helper()
	var content io.Reader
	if body != nil {
		raw, err := json.Marshal(body)
		if err != nil {
			b.Fatal(err)
		}
		content = bytes.NewReader(raw)
	}
	req, err := http.NewRequest(method, b.Endpoint+"/_loopcloud/"+path, content)
	if err != nil {
		b.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+b.Token())
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		b.Fatal(err)
	}
	defer resp.Body.Close()
	raw, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode >= 300 {
		b.Fatalf("%s %s: %s %v\n%s", method, path, resp.Status, err, raw)
	}
	if answer != nil {
		if err := json.Unmarshal(raw, answer); err != nil {
			b.Fatalf("%s %s: %v\n%s", method, path, err, raw)
		}
	}
}

// Calls returns the calls since the last time.
func (b *Cloud) Calls() []Call {
	b.Helper()
	var all []Call
	b.Control(http.MethodGet, "calls", nil, &all)
	b.Control(http.MethodDelete, "calls", nil, nil)
	return all
}

// lineWatch collects output, and sends the rest of the first line with the prefix.
type lineWatch struct {
	prefix string
	found  chan string
	all    *bytes.Buffer
	done   bool
}

func (w *lineWatch) Write(p []byte) (int, error) {
	w.all.Write(p)
	if _, after, ok := strings.Cut(w.all.String(), w.prefix); ok && !w.done {
		if line, _, whole := strings.Cut(after, "\n"); whole {
			w.done = true
			w.found <- strings.TrimSpace(line)
		}
	}
	return len(p), nil
}

// A second account, which shares images with the first one.
const (
	OtherAccount = "222222222222"
	OtherKeyID   = "AKIAACCEPTANCE000002"
)
