//go:build linux

package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/packer-chroot/packer-plugin-chroot/loopcloud/state"
	"github.com/packer-chroot/packer-plugin-chroot/testdir"
)

// asProgram makes the test binary run as the program.
const asProgram = "LOOPCLOUD_TEST_AS_PROGRAM"

func TestMain(m *testing.M) {
	if os.Getenv(asProgram) != "" {
		os.Unsetenv(asProgram) // its child processes are not loopcloud
		main()
		return
	}
	os.Exit(m.Run())
}

// programWith returns the program with arguments, ready to run.
func programWith(t *testing.T, args ...string) *exec.Cmd {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(self, args...)
	cmd.Env = append(os.Environ(), asProgram+"=1", "AWS_EC2_METADATA_DISABLED=true", "AWS_PROFILE=someone", "AWS_USE_FIPS_ENDPOINT=true", "NO_PROXY=example.com", "TMPDIR="+testdir.New(t))
	return cmd
}

// outcome holds the exit status and the output of a program.
type outcome struct {
	status         int
	stdout, stderr string
}

func runProgram(t *testing.T, args ...string) outcome {
	t.Helper()
	return outcomeOf(t, programWith(t, args...))
}

func outcomeOf(t *testing.T, cmd *exec.Cmd) outcome {
	t.Helper()
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	return outcome{cmd.ProcessState.ExitCode(), stdout.String(), stderr.String()}
}

func TestUsageErrors(t *testing.T) {
	dir := testdir.New(t)
	for _, test := range []struct {
		args []string
		says string
	}{
		{nil, "no command"},
		{[]string{"fly"}, `"fly"`},
		{[]string{"serve"}, "--dir"},
		{[]string{"serve", "--dir", dir, "more"}, `"more"`},
		{[]string{"serve", "--dir", dir, "--fast"}, "-fast"},
		{[]string{"serve", "--dir", dir, "--profile", "slow"}, "slow"},
		{[]string{"serve", "--dir", dir, "--profile", "aws:-1"}, "-1"},
		{[]string{"serve", "--dir", dir, "--naming", "ide"}, "ide"},
		{[]string{"serve", "--dir", dir, "--region", "here"}, "here"},
		{[]string{"serve", "--dir", dir, "--key", "ID"}, "ID:SECRET"},
		{[]string{"serve", "--dir", dir, "--key", "ID:SECRET:me"}, "twelve digits"},
		{[]string{"run"}, "COMMAND"},
		{[]string{"run", "--"}, "COMMAND"},
		{[]string{"image"}, "import"},
		{[]string{"image", "fly"}, `"fly"`},
		{[]string{"image", "import", "--dir", dir, "source"}, "--name"},
		{[]string{"image", "import", "--dir", dir, "--name", "xyz"}, "SOURCE"},
		{[]string{"image", "import", "--dir", dir, "--name", "xyz", "a", "b"}, "SOURCE"},
		{[]string{"image", "import", "--name", "xyz", "a"}, "--dir"},
		{[]string{"image", "import", "--name", "xyz", "a", "--dir", dir, "--size", "big"}, "size"},
		{[]string{"image", "import", "--name", "xyz", "a", "--dir", dir, "--tag", "x"}, "tag"},
		{[]string{"image", "import", "--name", "xyz", "a", "--dir", dir, "--token-file", "file"}, "--endpoint"},
		{[]string{"image", "list", "--dir", dir, "--token-file", "file", "--endpoint", "http://127.0.0.1:1"}, "not from both"},
		{[]string{"image", "list", "--endpoint", "127.0.0.1:1"}, "http://"},
		{[]string{"image", "list", "--dir", dir, "more"}, `"more"`},
		{[]string{"image", "export", "--dir", dir, "ami-01234567"}, "FILE"},
		{[]string{"image", "import", "--name", "xyz", "a", "--dir", dir, "--region", "here"}, "eu-west-2"},
		{[]string{"image", "import", "--name", "xyz", "a", "--dir", dir, "--account", "me"}, "twelve digits"},
		{[]string{"version", "more"}, `"more"`},
	} {
		got := runProgram(t, test.args...)
		if got.status != statusUsage || got.stdout != "" || !strings.Contains(got.stderr, test.says) {
			t.Errorf("%q: status %d, should have said %q: %s", test.args, got.status, test.says, got.stderr)
		}
	}
	if left, _ := os.ReadDir(dir); len(left) != 0 {
		t.Errorf("the directory has %v", left)
	}
}

func TestHelpAndVersion(t *testing.T) {
	for _, line := range []string{
		"help", "--help", "-h", "help serve", "serve --help", "run -h", "run --dir x --help -- true", "version --help",
		"image help", "image --help", "image import --help", "image export x -h", "image list -help",
	} {
		got := runProgram(t, strings.Fields(line)...)
		if got.status != 0 || !strings.Contains(got.stdout, "image import") || got.stderr != "" {
			t.Errorf("%s: %+v", line, got)
		}
	}
	for _, said := range []string{ownKey.ID + ":" + ownKey.Secret, defaultListen} {
		if !strings.Contains(usage, said) {
			t.Errorf("the help does not say %s", said)
		}
	}
	if got := runProgram(t, "version"); got.status != 0 || !strings.HasPrefix(got.stdout, "loopcloud ") {
		t.Errorf("the version is %+v", got)
	}
}

func TestCommandErrors(t *testing.T) {
	dir := testdir.New(t)
	for _, test := range []struct {
		args []string
		says string
	}{
		{[]string{"image", "import", "--dir", dir, "--name", "xyz", "/does/not/exist"}, "/does/not/exist"},
		{[]string{"image", "export", "--dir", dir, "ami-00000bad", filepath.Join(dir, "out")}, "ami-00000bad"}, // created by the import
		{[]string{"image", "list", "--endpoint", "http://127.0.0.1:1"}, "127.0.0.1:1"},
		{[]string{"serve", "--dir", dir, "--listen", "nowhere"}, "nowhere"},
		{[]string{"serve", "--dir", "/dev/null"}, "/dev/null"},
	} {
		if got := runProgram(t, test.args...); got.status != statusFailed || !strings.Contains(got.stderr, test.says) {
			t.Errorf("%q: status %d, should have said %q: %s", test.args, got.status, test.says, got.stderr)
		}
	}
}

// TestReadingCommandsCreateNoCloud checks that reading commands create no cloud.
func TestReadingCommandsCreateNoCloud(t *testing.T) {
	dir := filepath.Join(testdir.New(t), "mistyped")
	for _, args := range [][]string{
		{"image", "list", "--dir", dir},
		{"image", "export", "--dir", dir, "ami-00000bad", filepath.Join(testdir.New(t), "out")},
	} {
		if got := runProgram(t, args...); got.status != statusFailed || !strings.Contains(got.stderr, "no cloud in "+dir) {
			t.Errorf("%q: %+v", args, got)
		}
	}
	if _, err := os.Stat(dir); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the directory was made (%v)", err)
	}
}

func TestRunStatus(t *testing.T) {
	dir := testdir.New(t)
	for script, want := range map[string]int{"exit 0": 0, "exit 7": 7, "kill -TERM $$": 143, "kill -KILL $$": 137} {
		if got := runProgram(t, "run", "--dir", dir, "--", "sh", "-c", script); got.status != want || got.stderr != "" {
			t.Errorf("%q: status %d, not %d: %s", script, got.status, want, got.stderr)
		}
	}
	if got := runProgram(t, "run", "--", "/does/not/exist"); got.status != statusNotFound || !strings.Contains(got.stderr, "/does/not/exist") {
		t.Errorf("no command: %+v", got)
	}
	if got := runProgram(t, "run", "--", dir); got.status != statusNotRunnable {
		t.Errorf("a directory for a command: %+v", got)
	}
}

func TestRunLeavesNoDirectory(t *testing.T) {
	cmd := programWith(t, "run", "sh", "-c", "ls $TMPDIR; echo $TMPDIR")
	got := outcomeOf(t, cmd)
	lines := strings.Fields(got.stdout)
	if len(lines) != 2 || !strings.HasPrefix(lines[0], "loopcloud-") {
		t.Fatalf("meanwhile there was %q: %s", got.stdout, got.stderr)
	}
	if left, err := os.ReadDir(lines[1]); err != nil || len(left) != 0 {
		t.Errorf("left are %v (%v)", left, err)
	}
}

func TestRunEnvironment(t *testing.T) {
	got := runProgram(t, "run", "--region", "us-east-2", "--key", "ID:SE/CRET", "--", "env")
	env := map[string]string{}
	for _, line := range strings.Split(got.stdout, "\n") {
		name, value, _ := strings.Cut(line, "=")
		env[name] = value
	}
	endpoint := env["LOOPCLOUD_ENDPOINT"]
	if !strings.HasPrefix(endpoint, "http://127.0.0.1:") {
		t.Fatalf("the endpoint is %q: %s", endpoint, got.stderr)
	}
	for name, want := range map[string]string{
		"AWS_ENDPOINT_URL": endpoint, "AWS_ENDPOINT_URL_EC2": endpoint, "AWS_ENDPOINT_URL_EBS": endpoint, "AWS_EC2_METADATA_SERVICE_ENDPOINT": endpoint,
		"AWS_REGION": "us-east-2", "AWS_DEFAULT_REGION": "us-east-2", "AWS_ACCESS_KEY_ID": "ID", "AWS_SECRET_ACCESS_KEY": "SE/CRET",
		"OSC_ENDPOINT_API": endpoint + "/api/v1", "OSC_METADATA_ENDPOINT": endpoint,
		"OSC_REGION": "us-east-2", "OSC_ACCESS_KEY": "ID", "OSC_SECRET_KEY": "SE/CRET",
		"NO_PROXY": "example.com,127.0.0.1",
	} {
		if env[name] != want {
			t.Errorf("%s is %q, not %q", name, env[name], want)
		}
	}
	for _, name := range []string{"AWS_PROFILE", "AWS_EC2_METADATA_DISABLED", "AWS_USE_FIPS_ENDPOINT"} {
		if value, ok := env[name]; ok {
			t.Errorf("%s is %q", name, value)
		}
	}
}

func TestRunForwardsSignals(t *testing.T) {
	for _, s := range []syscall.Signal{syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP} {
		cmd := programWith(t, "run", "--", "sh", "-c", `trap 'kill $!; exit 3' TERM INT HUP; sleep 60 & echo ready; wait`)
		cmd.Stdin = nil // no terminal
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		if _, err := bufio.NewReader(out).ReadString('\n'); err != nil {
			t.Error(err)
		}
		_ = cmd.Process.Signal(s)
		_ = cmd.Wait()
		if got := cmd.ProcessState.ExitCode(); got != 3 {
			t.Errorf("%v: the status is %d", s, got)
		}
	}
}

// served is a loopcloud that serves.
type served struct {
	cmd      *exec.Cmd
	endpoint string
	rest     *bytes.Buffer // its output after it is ready
	read     sync.WaitGroup
}

func serve(t *testing.T, dir string, args ...string) *served {
	t.Helper()
	s := &served{rest: &bytes.Buffer{}}
	s.cmd = programWith(t, append([]string{"serve", "--dir", dir, "--listen", "127.0.0.1:0"}, args...)...)
	stderr, err := s.cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := s.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewReader(stderr)
	line, _ := lines.ReadString('\n')
	if file := strings.TrimPrefix(line, "loopcloud: the control token is in "); strings.TrimSpace(file) != filepath.Join(dir, "token") {
		t.Errorf("it said %q", line)
	}
	line, _ = lines.ReadString('\n')
	s.read.Go(func() { _, _ = io.Copy(s.rest, lines) })
	var ok bool
	if s.endpoint, ok = strings.CutPrefix(strings.TrimSpace(line), "loopcloud: listening on "); !ok {
		_ = s.cmd.Process.Kill()
		t.Fatalf("it said %q", line)
	}
	t.Cleanup(func() { s.stop(syscall.SIGKILL) })
	return s
}

// stop sends a signal and returns the exit status; -1 if the signal ended the process.
func (s *served) stop(how syscall.Signal) int {
	_ = s.cmd.Process.Signal(how)
	s.read.Wait()
	_ = s.cmd.Wait()
	return s.cmd.ProcessState.ExitCode()
}

func TestServeEndsCleanly(t *testing.T) {
	dir := testdir.New(t)
	for _, s := range []syscall.Signal{syscall.SIGTERM, syscall.SIGINT} {
		running := serve(t, dir)
		resp, err := http.Get(running.endpoint + "/_loopcloud/health")
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if got := runProgram(t, "image", "list", "--dir", dir); got.status != statusFailed || !strings.Contains(got.stderr, strconv.Itoa(running.cmd.Process.Pid)) {
			t.Errorf("while it is served, the directory could be used: %+v", got)
		}
		if status := running.stop(s); status != 0 || running.rest.Len() != 0 {
			t.Errorf("%v: the status is %d: %s", s, status, running.rest)
		}
	}
}

func TestImageCommands(t *testing.T) {
	dir, source := testdir.New(t), filepath.Join(testdir.New(t), "disk.raw")
	if err := os.WriteFile(source, append([]byte("a raw disk"), make([]byte, 1<<20-10)...), 0o644); err != nil {
		t.Fatal(err)
	}
	at := []string{"--dir", dir}
	imported := runProgram(t, append([]string{"image", "import", source, "--name", "at rest", "--id", "ami-e81d5881", "--tag", "a=b", "--tag", "c=d"}, at...)...)
	if imported.stdout != "ami-e81d5881\n" {
		t.Fatalf("the import is %+v", imported)
	}
	running := serve(t, dir)
	at = []string{"--endpoint", running.endpoint, "--dir", dir}
	second := runProgram(t, append([]string{"image", "import", "--name", "running", "--size", "2", source}, at...)...)
	id := strings.TrimSpace(second.stdout)
	if !strings.HasPrefix(id, "ami-") {
		t.Fatalf("the second import is %+v", second)
	}
	table := runProgram(t, append([]string{"image", "list"}, at...)...)
	for _, want := range []string{"ami-e81d5881", "at rest", id, "running", "2 GiB"} {
		if !strings.Contains(table.stdout, want) {
			t.Errorf("the list does not tell %s:\n%s%s", want, table.stdout, table.stderr)
		}
	}
	running.stop(syscall.SIGTERM)

	list := runProgram(t, "image", "list", "--json", "--dir", dir)
	for _, want := range []string{`"id": "ami-e81d5881"`, `"name": "running"`, `"a": "b"`} {
		if !strings.Contains(list.stdout, want) {
			t.Errorf("the JSON does not tell %s:\n%s%s", want, list.stdout, list.stderr)
		}
	}
	out := filepath.Join(testdir.New(t), "out.raw")
	if got := runProgram(t, "image", "export", id, out, "--dir", dir); got.status != 0 || got.stdout != "" {
		t.Fatalf("the export is %+v", got)
	}
	f, err := os.Open(out)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	head := make([]byte, 11)
	if _, err := io.ReadFull(f, head); err != nil || string(head) != "a raw disk\x00" {
		t.Errorf("the export begins with %q (%v)", head, err)
	}
	if info, err := f.Stat(); err != nil || info.Size() != 2<<30 {
		t.Errorf("the export has %d bytes (%v)", info.Size(), err)
	}
}

// TestImageOfAnAccount checks that the named account owns the image, and that a running
// loopcloud accepts only its own accounts.
func TestImageOfAnAccount(t *testing.T) {
	dir, source := testdir.New(t), filepath.Join(testdir.New(t), "disk.raw")
	if err := os.WriteFile(source, make([]byte, 1<<20), 0o644); err != nil {
		t.Fatal(err)
	}
	rest := runProgram(t, "image", "import", "--dir", dir, "--name", "at rest", "--account", "111111111111", source)
	if rest.status != 0 {
		t.Fatalf("the import is %+v", rest)
	}
	running := serve(t, dir)
	at := []string{"--endpoint", running.endpoint, "--token-file", filepath.Join(dir, "token")}
	for account, want := range map[string]int{"111111111111": 0, "333333333333": statusFailed} {
		got := runProgram(t, append([]string{"image", "import", "--name", "running", "--account", account, source}, at...)...)
		if got.status != want {
			t.Errorf("into %s: %+v", account, got)
		}
	}
	list := runProgram(t, append([]string{"image", "list", "--json"}, at...)...)
	if n := strings.Count(list.stdout, `"account": "111111111111"`); n != 2 {
		t.Errorf("%d images are the account's:\n%s", n, list.stdout)
	}
}

// TestTokenOfClients checks that the image commands find the control token of a running
// loopcloud.
func TestTokenOfClients(t *testing.T) {
	dir := testdir.New(t)
	running := serve(t, dir)
	text, err := os.ReadFile(filepath.Join(dir, "token"))
	if err != nil {
		t.Fatal(err)
	}
	token := strings.TrimSpace(string(text))
	for _, test := range []struct {
		args   []string
		env    string
		status int
		says   string
	}{
		{nil, "", statusFailed, "LOOPCLOUD_TOKEN"},
		{nil, token, 0, ""},
		{nil, "wrong", statusFailed, "401"},
		{[]string{"--dir", dir}, "wrong", 0, ""},
		{[]string{"--token-file", filepath.Join(dir, "token")}, "wrong", 0, ""},
		{[]string{"--token-file", filepath.Join(dir, "identity")}, token, statusFailed, "401"},
		{[]string{"--token-file", filepath.Join(dir, "none")}, token, statusFailed, "none"},
		{[]string{"--dir", filepath.Join(dir, "none")}, token, statusFailed, "none"},
	} {
		cmd := programWith(t, append([]string{"image", "list", "--endpoint", running.endpoint}, test.args...)...)
		cmd.Env = append(cmd.Env, "LOOPCLOUD_TOKEN="+test.env)
		got := outcomeOf(t, cmd)
		if got.status != test.status || !strings.Contains(got.stderr, test.says) || strings.Contains(got.stderr, token) {
			t.Errorf("%q with %q in the environment: %+v", test.args, test.env, got)
		}
	}
	if running.stop(syscall.SIGTERM); strings.Contains(running.rest.String(), token) {
		t.Errorf("the log holds the token: %s", running.rest)
	}
}

func TestProfiles(t *testing.T) {
	for text, want := range map[string]string{"instant": "0s", "aws": "3s", "aws:0.5": "1.5s", "outscale:2": "8s", "aws:0": "0s"} {
		if got, err := parseProfile(text); err != nil || got.Attach.String() != want {
			t.Errorf("%s attaches in %s (%v)", text, got.Attach, err)
		}
	}
	for _, text := range []string{"", "aws:", "aws:x", "aws:NaN", "aws:-1", "aws:1e9", "azure"} {
		if _, err := parseProfile(text); err == nil {
			t.Errorf("%q was taken", text)
		}
	}
}

func TestFlagsAnywhere(t *testing.T) {
	for line, want := range map[string]string{
		"a b":              "[a b] x=",
		"--x 1 a b":        "[a b] x=1",
		"a --x=1 b":        "[a b] x=1",
		"a b -x 1":         "[a b] x=1",
		"a -- --x 1":       "[a --x 1] x=",
		"a --x 1 -- b --x": "[a b --x] x=1",
	} {
		fs := newFlags("test")
		x := fs.String("x", "", "")
		others, err := parseAnywhere(fs, strings.Fields(line))
		if got := fmt.Sprintf("%v x=%s", others, *x); err != nil || got != want {
			t.Errorf("%q is %s, not %s (%v)", line, got, want, err)
		}
	}
}

func TestImageLocation(t *testing.T) {
	var misuse *usageError
	if err := (location{}).check("image list"); !errors.As(err, &misuse) {
		t.Errorf("no location: %v", err)
	}
	if err := (location{endpoint: "http://127.0.0.1:4600"}).check("image list"); err != nil {
		t.Error(err)
	}
	read := func(all images) error {
		_, err := all.Images(context.Background())
		return err
	}
	dir := testdir.New(t)
	for _, use := range []func() error{
		func() error { return location{dir: dir}.change("", "", read) },
		func() error { return location{dir: dir}.read(read) },
	} {
		if err := use(); err != nil {
			t.Error(err)
		}
	}
}

func TestParseRegions(t *testing.T) {
	got, err := parseRegions("us-east-1,me-south-1:off")
	if err != nil || len(got) != 2 || got[0].Name != "us-east-1" || got[0].OptIn != state.OptInNotRequired ||
		got[1].Zones[1] != "me-south-1b" || got[1].OptIn != state.NotOptedIn {
		t.Errorf("got %+v (%v)", got, err)
	}
	for _, text := range []string{"", "us-east-1,", "us-east-1,us-east-1:off", "moon", "us-east-1:on"} {
		if got, err := parseRegions(text); err == nil {
			t.Errorf("%q: got %+v", text, got)
		}
	}
}
