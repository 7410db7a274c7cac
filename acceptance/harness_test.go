package acceptance

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/packer-chroot/packer-plugin-chroot/remove"
	"github.com/packer-chroot/packer-plugin-chroot/testdir"
)

// Where the programs under test and their tools are; TestMain fills it.
var programs struct {
	repo, loopcloud, packer string
	// plugins is the PACKER_PLUGIN_PATH that holds both plugins.
	plugins string
	// root is a root file system of one busybox.
	root string
}

// ci says that nothing may be left out.
var ci = os.Getenv("CI") == "true"

func TestMain(m *testing.M) {
	maybeTrace()
	code, err := testMain(m)
	if err != nil {
		fmt.Fprintln(os.Stderr, "acceptance:", err)
		code = 1
	}
	os.Exit(code)
}

func testMain(m *testing.M) (code int, err error) {
	dir, err := os.MkdirTemp("", "acc")
	if err != nil {
		return 1, err
	}
	defer func() { err = errors.Join(err, remove.All(dir)) }()
	// every test's directory lies below it: what a test leaves can be told from
	// what others do on this host meanwhile
	if err := os.Setenv("TMPDIR", dir); err != nil {
		return 1, err
	}
	switch {
	case os.Getenv(partEnv) != "":
		prepared()
	case os.Geteuid() == 0:
		if err := prepare(dir); err != nil {
			return 1, err
		}
	case ci:
		return 1, fmt.Errorf("cannot run without root in CI")
	}
	before := staleEntries()
	code = m.Run()
	if left := leftOnHost(dir, before); len(left) > 0 {
		return 1, fmt.Errorf("the tests left on the host:\n%s", strings.Join(left, "\n"))
	}
	return code, nil
}

// prepare builds the three programs as they are now, installs the plugins for
// packer, and makes a root file system.
func prepare(dir string) error {
	out, err := exec.Command("go", "env", "GOMOD").Output()
	if err != nil {
		return fmt.Errorf("cannot find the module: %w", err)
	}
	programs.repo = filepath.Dir(strings.TrimSpace(string(out)))
	programs.packer = filepath.Join(programs.repo, "bin", "packer")
	if _, err := os.Stat(programs.packer); err != nil {
		return fmt.Errorf("no packer to test with (make packer makes it): %w", err)
	}
	programs.loopcloud = filepath.Join(dir, "loopcloud")
	programs.plugins = filepath.Join(dir, "plugins")
	programs.root = filepath.Join(dir, "root")
	if err := run("go", "build", "-ldflags", "-s -w", "-o", dir, "./cmd/...", "./tools/real"); err != nil {
		return err
	}
	for _, name := range []string{"amazon-chroot", "osc-chroot"} {
		err := run(programs.packer, "plugins", "install", "--path", filepath.Join(dir, "packer-plugin-"+name), "github.com/packer-chroot/"+name)
		if err != nil {
			return err
		}
	}
	return run(filepath.Join(programs.repo, "tools", "busybox-root.sh"), programs.root)
}

func run(name string, args ...string) error {
	cmd := exec.Command(name, args...)
	cmd.Dir = programs.repo
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "PACKER_PLUGIN_PATH="+programs.plugins, "PACKER_CONFIG_DIR="+filepath.Dir(programs.plugins), "CHECKPOINT_DISABLE=1")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%s %s: %w\n%s", name, strings.Join(args, " "), err, out)
	}
	return nil
}

// needRoot leaves a test out where there is no root; in CI that cannot happen.
func needRoot(t testing.TB) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root: block devices and mounts")
	}
}

// The key pair of every test cloud.
const (
	keyID  = "AKIAACCEPTANCE000000"
	secret = "acceptance/secret"
	region = "eu-west-2"
	// sourceID is the image that every test cloud starts with.
	sourceID = "ami-e81d5881"
)

// A box is a loopcloud of a test's own, with the directories that builds on it
// use.
type box struct {
	t testing.TB
	// dir is everything's; cloud is loopcloud's --dir.
	dir, cloud string
	endpoint   string
	env        []string
	cmd        *exec.Cmd
	log        *bytes.Buffer
	// marker is in the environment of builds and, as its name is one that commands in
	// a chroot get, of their commands.
	marker string
}

// newBox starts a loopcloud that holds the source image. At the test's end it is
// stopped, and nothing may be left.
func newBox(t testing.TB, args ...string) *box {
	t.Helper()
	needRoot(t)
	dir := shortDir(t)
	return newBoxOn(t, dir, filepath.Join(dir, "cloud"), args...)
}

// newBoxOn is newBox with the directory that is the box's, and the one that is its
// cloud's.
func newBoxOn(t testing.TB, dir, cloud string, args ...string) *box {
	t.Helper()
	b := &box{t: t, dir: dir, cloud: cloud, log: &bytes.Buffer{}, marker: "PACKER_BUILD_TEST=" + dir}
	b.loopcloud("image", "import", "--dir", b.cloud, "--name", "busybox", "--id", sourceID, programs.root)
	b.serve(args...)
	b.env = b.environment(b.described(everything))
	t.Cleanup(b.close)
	return b
}

// shortDir is a directory for a test whose name does not hold the test's: Packer
// makes its sockets below it, and a socket's path is 107 bytes at most (unix(7)).
func shortDir(t testing.TB) string {
	t.Helper()
	return testdir.New(t)
}

func (b *box) serve(args ...string) {
	b.t.Helper()
	args = append([]string{"serve", "--dir", b.cloud, "--listen", "127.0.0.1:0", "--key", keyID + ":" + secret}, args...)
	b.cmd = exec.Command(programs.loopcloud, args...)
	lines := &lineWatch{prefix: "loopcloud: listening on ", found: make(chan string, 1), all: b.log}
	b.cmd.Stderr = lines
	if err := b.cmd.Start(); err != nil {
		b.t.Fatal(err)
	}
	select {
	case b.endpoint = <-lines.found:
	case <-time.After(deadline):
		b.t.Fatalf("loopcloud is not ready:\n%s", b.log)
	}
}

// environment is what builds on the box are started with. api is where they find the APIs.
func (b *box) environment(api string) []string {
	for _, dir := range []string{"tmp", "lock", "state", "home"} {
		if err := os.MkdirAll(filepath.Join(b.dir, dir), 0o700); err != nil {
			b.t.Fatal(err)
		}
	}
	return []string{
		"PATH=" + os.Getenv("PATH"),
		"HOME=" + filepath.Join(b.dir, "home"),
		"TMPDIR=" + filepath.Join(b.dir, "tmp"),
		"CHECKPOINT_DISABLE=1",
		"PACKER_PLUGIN_PATH=" + programs.plugins,
		"PACKER_CONFIG_DIR=" + filepath.Join(b.dir, "home"),
		"PACKER_CHROOT_LOCK_DIR=" + filepath.Join(b.dir, "lock"),
		"PACKER_CHROOT_STATE_DIR=" + filepath.Join(b.dir, "state"),
		"AWS_ENDPOINT_URL=" + api,
		"AWS_EC2_METADATA_SERVICE_ENDPOINT=" + b.endpoint,
		"AWS_REGION=" + region,
		"AWS_ACCESS_KEY_ID=" + keyID,
		"AWS_SECRET_ACCESS_KEY=" + secret,
		"OSC_ENDPOINT_API=" + api + "/api/v1",
		"OSC_METADATA_ENDPOINT=" + b.endpoint,
		"OSC_REGION=" + region,
		"OSC_ACCESS_KEY=" + keyID,
		"OSC_SECRET_KEY=" + secret,
		"NO_PROXY=127.0.0.1",
		b.marker,
	}
}

// close checks that builds left nothing, and stops the cloud.
func (b *box) close() {
	b.clean()
	b.stop()
	if loops := loopsOf(b.cloud); len(loops) > 0 {
		b.t.Errorf("loopcloud stopped and left loop devices: %v", loops)
	}
}

// stop ends the box's loopcloud, if it runs, so that its directory is at rest.
func (b *box) stop() {
	b.t.Helper()
	if b.cmd == nil {
		return
	}
	_ = b.cmd.Process.Signal(os.Interrupt)
	if err := b.cmd.Wait(); err != nil {
		b.t.Errorf("loopcloud: %v\n%s", err, b.log)
	}
	b.cmd = nil
	b.log.Reset()
}

// clean fails the test if anything of a build is left on the host.
func (b *box) clean() {
	b.t.Helper()
	for _, p := range processesWith(b.marker) {
		b.t.Errorf("left running: %s", p)
	}
	for _, line := range strings.Split(read("/proc/self/mountinfo"), "\n") {
		if strings.Contains(line, b.dir) {
			b.t.Errorf("left mounted: %s", line)
		}
	}
	if loops := loopsOf(b.cloud); len(loops) > 0 {
		b.t.Errorf("left attached: %v", loops)
	}
	for _, dir := range []string{"tmp", "lock", "state"} {
		_ = filepath.WalkDir(filepath.Join(b.dir, dir), func(path string, d os.DirEntry, err error) error {
			if err == nil && !d.IsDir() {
				b.t.Errorf("left behind: %s", path)
			}
			return nil
		})
	}
}

// loopcloud runs the program and answers its standard output.
func (b *box) loopcloud(args ...string) string {
	b.t.Helper()
	cmd := exec.Command(programs.loopcloud, args...)
	if slices.Contains(args, "--endpoint") {
		cmd.Env = append(os.Environ(), "LOOPCLOUD_TOKEN="+b.token())
	}
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		b.t.Fatalf("loopcloud %s: %v\n%s", strings.Join(args, " "), err, stderr.Bytes())
	}
	return strings.TrimSpace(string(out))
}

// command is packer with the environment of the box, in a directory of its own. The end
// of ctx is Ctrl-C; who does not end by that is left behind; killed ends them.
func (b *box) command(ctx context.Context, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, programs.packer, args...)
	cmd.Env = b.env
	cmd.Dir = b.dir
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGINT) }
	cmd.WaitDelay = 30 * time.Second
	return cmd
}

// packer runs packer and answers everything it printed.
// A build that asks for a device name is made again while somebody else on this machine,
// such as another run of these tests, has that name.
func (b *box) packer(args ...string) (string, error) {
	b.t.Helper()
	for begun := time.Now(); ; time.Sleep(500 * time.Millisecond) {
		out, err := b.packerOnce(args...)
		if err == nil || !nameInUse.MatchString(flat(out)) || time.Since(begun) > deadline {
			return out, err
		}
	}
}

// nameInUse matches what a build says whose one device name is in use.
var nameInUse = regexp.MustCompile(`no device name is free on this host: tried \[\S+\],|device_path: \S+ is taken`)

func (b *box) packerOnce(args ...string) (string, error) {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), deadline)
	defer cancel()
	cmd := b.command(ctx, args...)
	out, err := cmd.CombinedOutput()
	if ctx.Err() != nil {
		b.t.Errorf("packer %s has not ended in time", strings.Join(args, " "))
		b.killed(cmd)
	}
	return string(out), err
}

// killed ends what is left of a packer that did not end by Ctrl-C, and has what it made
// cleaned up, so that later tests find the host as it was.
func (b *box) killed(cmd *exec.Cmd) {
	b.t.Helper()
	_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
	for _, f := range flavors {
		if all, status := b.reap(f); status != 0 || len(all) > 0 {
			b.t.Logf("reap: status %d, %+v", status, all)
		}
	}
}

// write puts a file beside the templates and answers its path.
func (b *box) write(name, content string) string {
	b.t.Helper()
	path := filepath.Join(b.dir, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		b.t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
		b.t.Fatal(err)
	}
	return path
}

// template is a JSON template of one builder and its provisioners.
func (b *box) template(builder map[string]any, provisioners ...map[string]any) string {
	b.t.Helper()
	content, err := json.MarshalIndent(map[string]any{
		"builders":     []any{builder},
		"provisioners": append([]map[string]any{}, provisioners...),
	}, "", "  ")
	if err != nil {
		b.t.Fatal(err)
	}
	return b.write("template.json", string(content))
}

// build builds a template that must succeed, and checks that nothing is left.
func (b *box) build(template string, args ...string) string {
	b.t.Helper()
	out, err := b.packer(append(append([]string{"build", "-color=false"}, args...), template)...)
	if err != nil {
		b.t.Fatalf("packer build: %v\n%s\nloopcloud said:\n%s", err, out, b.log)
	}
	b.clean()
	return out
}

// fails builds a template that must fail with every one of the texts in what is
// printed, and checks that nothing is left.
func (b *box) fails(template string, texts ...string) string {
	b.t.Helper()
	out, err := b.packer("build", "-color=false", template)
	if err == nil {
		b.t.Errorf("packer build succeeded, and should have said %q:\n%s", texts, out)
	}
	for _, text := range texts {
		if !strings.Contains(strings.ToLower(flat(out)), strings.ToLower(flat(text))) {
			b.t.Errorf("packer build should have said %q:\n%s", text, out)
		}
	}
	b.clean()
	return out
}

// flat undoes the line breaks and prefixes of Packer's ui.
func flat(s string) string { return strings.Join(strings.Fields(s), " ") }

// call is one request that loopcloud answered, as its control interface tells.
type call struct {
	Dialect string `json:"dialect"`
	Action  string `json:"action"`
	Status  int    `json:"status"`
}

// token is that of the control.
func (b *box) token() string {
	b.t.Helper()
	text, err := os.ReadFile(filepath.Join(b.cloud, "token"))
	b.must(err)
	return strings.TrimSpace(string(text))
}

// control makes a request of loopcloud's control interface.
func (b *box) control(method, path string, body, answer any) {
	b.t.Helper()
	var content io.Reader
	if body != nil {
		raw, err := json.Marshal(body)
		if err != nil {
			b.t.Fatal(err)
		}
		content = bytes.NewReader(raw)
	}
	req, err := http.NewRequest(method, b.endpoint+"/_loopcloud/"+path, content)
	if err != nil {
		b.t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+b.token())
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		b.t.Fatal(err)
	}
	defer resp.Body.Close()
	raw, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode >= 300 {
		b.t.Fatalf("%s %s: %s %v\n%s", method, path, resp.Status, err, raw)
	}
	if answer != nil {
		if err := json.Unmarshal(raw, answer); err != nil {
			b.t.Fatalf("%s %s: %v\n%s", method, path, err, raw)
		}
	}
}

// calls answers the record of calls and begins a new one.
func (b *box) calls() []call {
	b.t.Helper()
	var all []call
	b.control(http.MethodGet, "calls", nil, &all)
	b.control(http.MethodDelete, "calls", nil, nil)
	return all
}

// lineWatch passes on what is written, and the rest of the first line that has
// the prefix.
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

// leftOnHost lists what tests below dir left: loop devices, mounts of them or below
// dir, and entries of /dev and /mnt that lead to nothing and were not there before.
func leftOnHost(dir string, before []string) []string {
	var left []string
	for _, loop := range loopsOf(dir) {
		left = append(left, "loop device "+loop)
	}
	for _, line := range strings.Split(read("/proc/self/mountinfo"), "\n") {
		f := strings.Fields(line)
		if len(f) > 4 && (strings.HasPrefix(f[4], dir+"/") || strings.HasPrefix(backing(f[2]), dir+"/")) {
			left = append(left, "mount "+f[4])
		}
	}
	for _, entry := range staleEntries() {
		if !slices.Contains(before, entry) {
			left = append(left, "leading nowhere: "+entry)
		}
	}
	return left
}

// staleEntries lists the device nodes and links that lead to no disk, and the
// directories for mounts that nothing is mounted on. Somebody else's may be on
// its way to be something: only what stays so for a while counts.
func staleEntries() []string {
	stale := staleNow()
	for range 4 {
		if len(stale) == 0 {
			break
		}
		time.Sleep(500 * time.Millisecond)
		again := staleNow()
		stale = slices.DeleteFunc(stale, func(entry string) bool { return !slices.Contains(again, entry) })
	}
	return stale
}

func staleNow() []string {
	var stale []string
	for _, pattern := range []string{"/dev/xvd*", "/dev/sd*", "/dev/nvme*n*", "/dev/disk/by-id/*"} {
		paths, _ := filepath.Glob(pattern)
		for _, path := range paths {
			if !leadsToDisk(path) {
				stale = append(stale, path)
			}
		}
	}
	mounts := read("/proc/self/mountinfo")
	dirs, _ := filepath.Glob("/mnt/packer-amazon-chroot-volumes/*")
	for _, path := range dirs {
		if !strings.Contains(mounts, " "+path+" ") {
			stale = append(stale, path)
		}
	}
	return stale
}

// leadsToDisk says whether a node is of a disk that the kernel has, and, if that
// is a loop device, of one that has a file.
func leadsToDisk(path string) bool {
	var st syscall.Stat_t
	if err := syscall.Stat(path, &st); err != nil {
		return false
	}
	number := fmt.Sprintf("%d:%d", unix.Major(st.Rdev), unix.Minor(st.Rdev))
	target, err := filepath.EvalSymlinks("/sys/dev/block/" + number)
	return err == nil && (!strings.Contains(target, "/loop") || backing(number) != "")
}

// backing is the file behind a loop device, or behind the one that a partition is
// on.
func backing(number string) string {
	dir := "/sys/dev/block/" + number
	return strings.TrimSpace(read(dir+"/loop/backing_file") + read(dir+"/../loop/backing_file"))
}

// loopsOf lists the loop devices whose backing file lies below dir.
func loopsOf(dir string) []string {
	var found []string
	files, _ := filepath.Glob("/sys/block/loop*/loop/backing_file")
	for _, f := range files {
		if backing := strings.TrimSpace(read(f)); strings.HasPrefix(backing, strings.TrimSuffix(dir, "/")+"/") {
			found = append(found, strings.Split(f, "/")[3]+" on "+backing)
		}
	}
	return found
}

// processesWith lists the processes that have the entry in their environment.
func processesWith(entry string) []string {
	var found []string
	files, _ := filepath.Glob("/proc/[0-9]*/environ")
	for _, f := range files {
		if slices.Contains(strings.Split(read(f), "\x00"), entry) {
			found = append(found, strings.ReplaceAll(read(filepath.Join(filepath.Dir(f), "cmdline")), "\x00", " "))
		}
	}
	return found
}

func read(path string) string {
	content, _ := os.ReadFile(path)
	return string(content)
}
