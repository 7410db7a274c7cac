package undo_test

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/packer-chroot/packer-plugin-chroot/testdir"
	"github.com/packer-chroot/packer-plugin-chroot/testroot"
	"github.com/packer-chroot/packer-plugin-chroot/undo"
)

// roleEnv is the variable that makes the test program play the part of another process: see runRole.
const roleEnv = "JOURNAL_TEST_ROLE"

func TestMain(m *testing.M) {
	if role := os.Getenv(roleEnv); role != "" {
		if err := runRole(role, os.Args[1]); err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// runRole runs a process that uses the journals of a directory, by its role.
func runRole(role, dir string) error {
	switch role {
	case "live": // arms an act and waits to be killed
		j, err := create(dir, header("live"))
		if err != nil {
			return err
		}
		if _, err := j.Arm("scaffold", act{"volume"}); err != nil {
			return err
		}
		fmt.Println("armed")
		time.Sleep(time.Hour) // otherwise the runtime would end it, because nothing is awaited
		return nil
	case "full": // has room for a few records
		j, err := create(dir, header("full"))
		if err != nil {
			return err
		}
		if err := unix.Setrlimit(unix.RLIMIT_FSIZE, &unix.Rlimit{Cur: 1000, Max: unix.RLIM_INFINITY}); err != nil {
			return err
		}
		for n := 1; ; n++ {
			if _, err := j.Arm("scaffold", act{fmt.Sprint("volume ", n)}); err != nil {
				fmt.Println(n-1, err)
				_ = unix.Kill(os.Getpid(), unix.SIGKILL)
			}
		}
	case "undone": // has no room for the records of the undone acts
		j, err := create(dir, header("undone"))
		if err != nil {
			return err
		}
		var notes []*entry
		for _, stack := range []undo.Group{"scaffold", "products"} {
			note, err := j.Arm(stack, act{"volume"})
			if err != nil {
				return err
			}
			notes = append(notes, note)
		}
		if err := unix.Setrlimit(unix.RLIMIT_FSIZE, &unix.Rlimit{Cur: 1, Max: unix.RLIM_INFINITY}); err != nil {
			return err
		}
		if _, err := j.Arm("scaffold", act{"another"}); err == nil {
			return errors.New("there was room")
		}
		for _, note := range notes {
			if err := undoEntry(note); err != nil {
				return err
			}
		}
		fmt.Println(len(j.Outstanding()), "outstanding")
		return j.Close()
	case "stuck": // can neither write to its journal nor remove it
		j, err := create(dir, header("stuck"))
		if err != nil {
			return err
		}
		if err := unix.Setrlimit(unix.RLIMIT_FSIZE, &unix.Rlimit{Cur: 1, Max: unix.RLIM_INFINITY}); err != nil {
			return err
		}
		if err := errors.Join(os.Rename(j.Path(), j.Path()+".away"), os.Mkdir(j.Path(), 0o700)); err != nil {
			return err
		}
		fmt.Println(j.Keep("products"))
		return nil
	case "race": // begins builds in parallel with a process that looks for killed ones
		for n := range 300 {
			j, err := create(dir, header(fmt.Sprint("race-", n)))
			if err != nil {
				return err
			}
			if _, err := j.Arm("scaffold", act{"volume"}); err != nil {
				return err
			}
			if _, err := os.Stat(j.Path()); err != nil {
				return fmt.Errorf("the journal of a living build: %w", err)
			}
			for _, e := range j.Outstanding() {
				if err := undoEntry(e); err != nil {
					return err
				}
			}
			if err := j.Close(); err != nil {
				return err
			}
		}
		return nil
	}
	return errors.New("no such role")
}

// roleProcess returns a command that runs this program in a role.
func roleProcess(t *testing.T, role, dir string) *exec.Cmd {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), self, dir)
	cmd.Env = append(os.Environ(), roleEnv+"="+role)
	return cmd
}

type act struct {
	What string `json:"what"`
}

func (a act) String() string { return a.What }

type (
	ledger = undo.Ledger[act]
	entry  = undo.Entry[act]
)

// create begins the journal of a build whose acts need no undoing.
func create(dir string, h undo.Header) (*ledger, error) {
	l := undo.New(func(context.Context, *entry) error { return nil })
	return l, l.Begin(dir, h)
}

// resume takes over a journal.
func resume(path string) (*ledger, error) {
	l, err := undo.Resume[act](path)
	if err != nil {
		return nil, err
	}
	return l, l.Load(readAct, func(context.Context, *entry) error { return nil })
}

func readAct(r undo.Recorded) (a act, err error) {
	err = json.Unmarshal(r.Act, &a)
	return a, err
}

// undoEntry undoes an act, so that its journal records it as finished.
func undoEntry(e *entry) error { return e.Undo(context.Background()) }

// settleAs completes an act.
func settleAs(e *entry, a act) { e.Settle(func(act) act { return a }) }

func header(build string) undo.Header {
	return undo.Header{
		Build: build, Program: "amazon-chroot", Account: "123456789012", Region: "here", Host: "i-1",
		Start: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC),
	}
}

// newJournal begins the journal of a build that runs in this process.
func newJournal(t *testing.T, build string) *ledger {
	t.Helper()
	j, err := create(filepath.Join(testdir.New(t), "made", "when needed"), header(build))
	if err != nil {
		t.Fatal(err)
	}
	return j
}

func armed(t *testing.T, j *ledger, group undo.Group, what string) *entry {
	t.Helper()
	note, err := j.Arm(group, act{what})
	if err != nil {
		t.Fatal(err)
	}
	return note
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// copyOfJournal returns the journal of a build as if it were killed now, in another directory.
func copyOfJournal(t *testing.T, j *ledger) (path string) {
	t.Helper()
	text, err := os.ReadFile(j.Path())
	must(t, err)
	path = filepath.Join(testdir.New(t), filepath.Base(j.Path()))
	must(t, os.Chmod(filepath.Dir(path), 0o700))
	must(t, os.WriteFile(path, text, 0o600))
	return path
}

func resumeJournal(t *testing.T, path string) *ledger {
	t.Helper()
	j, err := resume(path)
	if err != nil {
		t.Fatal(err)
	}
	return j
}

// outstanding lists group and act of the outstanding entries, in the order of the acts.
func outstanding(t *testing.T, j *ledger) []string {
	t.Helper()
	all := []string{}
	for _, e := range slices.Backward(j.Outstanding()) {
		all = append(all, string(e.Group())+": "+e.String())
	}
	return all
}

// TestJournalAtEveryMoment checks what a reaper finds outstanding after each step.
func TestJournalAtEveryMoment(t *testing.T) {
	j := newJournal(t, "build-1")
	var volume, attachment, snapshot *entry
	steps := []struct {
		name string
		do   func() error
		want []string
	}{
		{"begun", func() error { return nil }, []string{}},
		{"volume armed", func() (err error) { volume, err = j.Arm("scaffold", act{"volume"}); return err }, []string{"scaffold: volume"}},
		{"volume extended", func() error { return volume.Extend(func(act) act { return act{"vol-1"} }) }, []string{"scaffold: vol-1"}},
		{"volume known", func() error { settleAs(volume, act{"vol-1"}); return nil }, []string{"scaffold: vol-1"}},
		{"attachment armed", func() (err error) { attachment, err = j.Arm("scaffold", act{"attachment"}); return err },
			[]string{"scaffold: vol-1", "scaffold: attachment"}},
		{"snapshot armed", func() (err error) { snapshot, err = j.Arm("products", act{"snapshot"}); return err },
			[]string{"scaffold: vol-1", "scaffold: attachment", "products: snapshot"}},
		{"attachment over", func() error { return undoEntry(attachment) }, []string{"scaffold: vol-1", "products: snapshot"}},
		{"over is over", func() error { settleAs(attachment, act{"late"}); return undoEntry(attachment) },
			[]string{"scaffold: vol-1", "products: snapshot"}},
		{"products kept", func() error { return j.Keep("products", "copies") }, []string{"scaffold: vol-1"}},
		{"kept is kept", func() error { return undoEntry(snapshot) }, []string{"scaffold: vol-1"}},
		{"volume over", func() error { return undoEntry(volume) }, []string{}},
	}
	for _, step := range steps {
		must(t, step.do())
		resumed := resumeJournal(t, copyOfJournal(t, j))
		if diff := cmp.Diff(step.want, outstanding(t, resumed)); diff != "" {
			t.Errorf("%s: outstanding (-want +got):\n%s", step.name, diff)
		}
		want := header("build-1")
		want.Version, want.Boot = undo.FormatVersion, strings.TrimSpace(read(t, "/proc/sys/kernel/random/boot_id"))
		if h, pending, err := undo.Inspect(copyOfJournal(t, j)); err != nil || h != resumed.Header() || len(pending) != len(step.want) {
			t.Errorf("%s: inspected %+v, %v, %v", step.name, h, pending, err)
		}
		if diff := cmp.Diff(want, resumed.Header()); diff != "" {
			t.Errorf("%s: header (-want +got):\n%s", step.name, diff)
		}
		must(t, resumed.Close())
		if _, err := os.Stat(resumed.Path()); errors.Is(err, os.ErrNotExist) != (len(step.want) == 0) {
			t.Errorf("%s: closed with %q outstanding, and its file: %v", step.name, step.want, err)
		}
	}
	must(t, j.Close())
	if left, err := os.ReadDir(filepath.Dir(j.Path())); err != nil || len(left) > 0 {
		t.Errorf("a build that ended well leaves %v, %v", left, err)
	}
}

// TestEndedJournal checks that a journal records whether its build ended by itself.
func TestEndedJournal(t *testing.T) {
	j := newJournal(t, "build-1")
	armed(t, j, "scaffold", "volume")
	if resumed := resumeJournal(t, copyOfJournal(t, j)); resumed.Ended() {
		t.Error("a killed build has ended by itself")
	}
	if alive, err := undo.Alive(j.Path()); err != nil || !alive {
		t.Errorf("alive: %v, %v", alive, err)
	}
	if err := undo.Forget(j.Path()); !errors.Is(err, undo.ErrAlive) {
		t.Errorf("forgetting a living build: %v", err)
	}
	must(t, j.Close())
	if alive, err := undo.Alive(j.Path()); err != nil || alive {
		t.Errorf("alive when it has ended: %v, %v", alive, err)
	}
	resumed := resumeJournal(t, j.Path())
	if !resumed.Ended() || len(resumed.Outstanding()) != 1 {
		t.Errorf("ended %v, pending %v", resumed.Ended(), outstanding(t, resumed))
	}
	must(t, resumed.Close())
	must(t, undo.Forget(j.Path()))
	if _, err := os.Stat(j.Path()); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("forgotten: %v", err)
	}
}

// TestOldFormat checks that a journal of the first version is read, and continued in that
// version.
func TestOldFormat(t *testing.T) {
	path := filepath.Join(testdir.New(t), "build-1.journal")
	text := undo.Sealed(`{"verb":"build","header":{"version":1,"build":"build-1"}}`) + undo.Sealed(`{"verb":"armed","seq":1,"stack":"scaffold","act":{"of":"volume"}}`)
	must(t, os.WriteFile(path, []byte(text), 0o600))
	must(t, resumeJournal(t, path).Close())
	if got := read(t, path); got != text {
		t.Errorf("a resumed has written %q", got)
	}
}

// TestResumedLedgerGoesOn checks that an act that a resumed ledger has undone is done for the
// next one.
func TestResumedLedgerGoesOn(t *testing.T) {
	j := newJournal(t, "build-1")
	armed(t, j, "scaffold", "volume")
	armed(t, j, "scaffold", "attachment")
	path := copyOfJournal(t, j)
	resumed := resumeJournal(t, path)
	must(t, undoEntry(resumed.Outstanding()[0]))
	if note := armed(t, resumed, "scaffold", "another"); note == nil {
		t.Error("a resumed cannot go on")
	}
	must(t, resumed.Close())
	next := resumeJournal(t, path)
	if diff := cmp.Diff([]string{"scaffold: volume", "scaffold: another"}, outstanding(t, next)); diff != "" {
		t.Errorf("outstanding (-want +got):\n%s", diff)
	}
	must(t, next.Close())
}

// TestLedgerWithoutJournal checks that a ledger works without a journal.
func TestLedgerWithoutJournal(t *testing.T) {
	j := undo.New(func(context.Context, *entry) error { return nil })
	note, err := j.Arm("scaffold", act{"volume"})
	must(t, err)
	settleAs(note, act{"vol-1"})
	must(t, errors.Join(note.Extend(func(act) act { return act{"vol-2"} }), undoEntry(note), j.Keep("products"), j.Close()))
	if note.String() != "vol-2" || j.Path() != "" || j.Recorded() || len(j.Outstanding()) > 0 {
		t.Errorf("%s; no journal is at %q and holds %v", note, j.Path(), outstanding(t, j))
	}
}

// TestJournalOfRunningProcess checks that the journal of another process cannot be resumed
// while that process runs.
func TestJournalOfRunningProcess(t *testing.T) {
	dir := testdir.New(t)
	must(t, os.Chmod(dir, 0o700))
	other := roleProcess(t, "live", dir)
	out, err := other.StdoutPipe()
	must(t, err)
	must(t, other.Start())
	if line, err := bufio.NewReader(out).ReadString('\n'); err != nil || line != "armed\n" {
		t.Fatalf("the other build says %q, %v", line, err)
	}
	paths, err := undo.Journals(dir)
	if err != nil || len(paths) != 1 {
		t.Fatalf("journals %q, %v", paths, err)
	}
	if _, err := resume(paths[0]); !errors.Is(err, undo.ErrAlive) {
		t.Errorf("inherited from the living: %v", err)
	}
	if h, err := undo.Peek(paths[0]); err != nil || h.Build != "live" || h.Region != "here" {
		t.Errorf("header %+v, %v", h, err)
	}
	must(t, other.Process.Kill())
	_ = other.Wait()
	resumed := resumeJournal(t, paths[0])
	if diff := cmp.Diff([]string{"scaffold: volume"}, outstanding(t, resumed)); diff != "" {
		t.Errorf("outstanding (-want +got):\n%s", diff)
	}
	if _, err := resume(paths[0]); !errors.Is(err, undo.ErrAlive) {
		t.Errorf("inherited twice: %v", err)
	}
	must(t, resumed.Close())
}

// TestJournalOnFullDisk checks that an act whose record does not fit is not begun, and earlier
// records stay readable.
func TestJournalOnFullDisk(t *testing.T) {
	dir := testdir.New(t)
	must(t, os.Chmod(dir, 0o700))
	out, _ := roleProcess(t, "full", dir).Output()
	var fit int
	if _, err := fmt.Sscan(string(out), &fit); err != nil || fit == 0 || !strings.Contains(string(out), "file too large") ||
		!strings.Contains(string(out), "nothing is begun") {
		t.Fatalf("the other build says %q, %v", out, err)
	}
	resumed := resumeJournal(t, filepath.Join(dir, "full.journal"))
	if got := outstanding(t, resumed); len(got) != fit {
		t.Errorf("%d acts fitted, and %q are outstanding", fit, got)
	}
	must(t, resumed.Close())
}

// TestUndoOnFullDisk checks that the journal is removed when nothing is outstanding, even if
// the last record could not be written.
func TestUndoOnFullDisk(t *testing.T) {
	dir := testdir.New(t)
	must(t, os.Chmod(dir, 0o700))
	out, err := roleProcess(t, "undone", dir).Output()
	must(t, err)
	if string(out) != "0 outstanding\n" {
		t.Errorf("the build says %q", out)
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
		t.Errorf("left are %v, %v", left, err)
	}
}

// TestUnwritableJournalIsReported checks that a journal that cannot be completed or removed is
// reported with the file to remove, because a later build would undo its acts.
func TestUnwritableJournalIsReported(t *testing.T) {
	dir := filepath.Join(testdir.New(t), "state")
	out, err := roleProcess(t, "stuck", dir).Output()
	must(t, err)
	for _, word := range []string{"the products stay", "file too large", "remove " + filepath.Join(dir, "stuck.journal") + " by hand", "is a directory"} {
		if !strings.Contains(string(out), word) {
			t.Errorf("the build says %q, and not %q", out, word)
		}
	}
}

// TestBeginWhileReapersRun checks that no other process resumes or removes a journal that is
// being created.
func TestBeginWhileReapersRun(t *testing.T) {
	dir := testdir.New(t)
	must(t, os.Chmod(dir, 0o700))
	other := roleProcess(t, "race", dir)
	ended := make(chan struct{})
	var wg sync.WaitGroup
	for range 2 {
		wg.Go(func() {
			for {
				select {
				case <-ended:
					return
				default:
				}
				paths, err := undo.Journals(dir)
				if err != nil {
					t.Error(err)
				}
				for _, path := range paths {
					if j, err := resume(path); err == nil {
						// that of a build which has not armed anything, or is over
						if len(j.Outstanding()) > 0 {
							t.Errorf("inherited %q from the living", outstanding(t, j))
						}
						_ = j.Close()
					} else if !errors.Is(err, undo.ErrAlive) && !errors.Is(err, os.ErrNotExist) {
						t.Error(err)
					}
				}
			}
		})
	}
	out, err := other.CombinedOutput()
	close(ended)
	wg.Wait()
	if err != nil {
		t.Errorf("the other builds: %v\n%s", err, out)
	}
}

// TestDamagedJournal checks that a damaged journal is set aside, and the error names it.
func TestDamagedJournal(t *testing.T) {
	j := newJournal(t, "build-1")
	armed(t, j, "scaffold", "volume")
	armed(t, j, "scaffold", "attachment")
	whole, err := os.ReadFile(j.Path())
	must(t, err)
	lines := strings.SplitAfter(string(whole), "\n")
	sum := undo.Sealed
	for name, test := range map[string]struct {
		text  string
		newer bool
	}{
		"torn in its last line":   {text: string(whole[:len(whole)-5])}, // and nothing has crashed
		"no line feed at its end": {text: string(whole[:len(whole)-1])},
		"zeros at its end":        {text: string(whole) + zeros(100)},
		"torn in its first line":  {text: string(whole[:20])},
		"torn in another line":    {text: lines[0] + lines[1][:20] + lines[2]},
		"zeros between records":   {text: lines[0] + zeros(len(lines[1])) + "\n" + lines[2]},
		"zeros and then a record": {text: lines[0] + lines[1][:20] + zeros(20) + "\n" + lines[2]},
		"another byte at its end": {text: string(whole[:len(whole)-2]) + "?\n"},
		"a flipped bit":           {text: strings.Replace(string(whole), `"what":"vol`, `"what":"fol`, 1)},
		"a missing line":          {text: lines[0] + sum(`{"verb":"over","seq":1}`)},
		"lines in another order":  {text: lines[0] + lines[2] + lines[1]},
		"two headers":             {text: lines[0] + lines[0]},
		"no header":               {text: lines[1]},
		"zeros":                   {text: string(make([]byte, 4096))},
		"an unknown verb":         {text: string(whole) + sum(`{"verb":"dance","seq":1}`)},
		"an unknown field":        {text: string(whole) + sum(`{"verb":"over","seq":1,"but":"not really"}`)},
		"another build's":         {text: strings.Replace(lines[0], "build-1", "build-2", 1)},
		"of another build":        {text: sum(`{"verb":"build","header":{"version":1,"build":"build-2"}}`)},
		"a build with a path":     {text: sum(`{"verb":"build","header":{"version":1,"build":"../../etc/passwd"}}`)},
		"of a newer version":      {text: sum(`{"verb":"build","header":{"version":3,"build":"build-1","moon":"full"}}`) + "???", newer: true},
	} {
		t.Run(name, func(t *testing.T) {
			path := copyOfJournal(t, j)
			must(t, os.WriteFile(path, []byte(test.text), 0o600))
			if _, _, err := undo.Inspect(path); !errors.Is(err, undo.ErrTorn) && !errors.Is(err, undo.ErrNewer) {
				t.Errorf("inspected: %v", err)
			}
			_, err := resume(path)
			want, aside := undo.ErrTorn, strings.TrimSuffix(path, ".journal")+".torn"
			if test.newer {
				want, aside = undo.ErrNewer, strings.TrimSuffix(path, ".journal")+".newer"
			}
			if !errors.Is(err, want) || !strings.Contains(err.Error(), aside) || !strings.Contains(err.Error(), "build ") {
				t.Errorf("error %v", err)
			}
			if text, err := os.ReadFile(aside); err != nil || string(text) != test.text {
				t.Errorf("set aside %q, %v", text, err)
			}
			if paths, err := undo.Journals(filepath.Dir(path)); err != nil || len(paths) > 0 {
				t.Errorf("still among the journals: %q, %v", paths, err)
			}
		})
	}
	must(t, j.Keep("scaffold"))
	must(t, j.Close())
}

func read(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	must(t, err)
	return string(text)
}

func zeros(n int) string { return string(make([]byte, n)) }

var boot = regexp.MustCompile(`"boot":"[^"]*"`)

// before is the first line of a journal as if the machine had been booted since.
func before(line string) string {
	_, text, _ := strings.Cut(strings.TrimSuffix(line, "\n"), " ")
	return undo.Sealed(boot.ReplaceAllString(text, `"boot":"another one"`))
}

// TestJournalAfterCrash checks that a crash of the machine leaves a part, or zeros, of the
// last record that was being written and of unsynced records. The records before them are
// kept, and a resumed ledger continues after them.
func TestJournalAfterCrash(t *testing.T) {
	j := newJournal(t, "build-1")
	armed(t, j, "scaffold", "volume")
	settleAs(armed(t, j, "scaffold", "attachment"), act{"attachment of vol-1"})
	whole, err := os.ReadFile(j.Path())
	must(t, err)
	lines := strings.SplitAfter(string(whole), "\n")
	synced := before(lines[0]) + strings.Join(lines[1:3], "")
	const known = len(`00000000 {"verb":"known"`)
	for name, end := range map[string]string{
		"nothing of it":            "",
		"a byte":                   lines[3][:1],
		"a part":                   lines[3][:known],
		"all but the line feed":    strings.TrimSuffix(lines[3], "\n"),
		"zeros":                    zeros(len(lines[3])),
		"zeros to the next sector": zeros(512),
		"a part and zeros":         lines[3][:known] + zeros(len(lines[3])-known),
		"zeros and its end":        zeros(known) + lines[3][known:],
		"two records, both zeros":  zeros(known) + "\n" + zeros(known),
	} {
		t.Run(name, func(t *testing.T) {
			path := copyOfJournal(t, j)
			must(t, os.WriteFile(path, []byte(synced+end), 0o600))
			_, pending, err := undo.Inspect(path)
			if err != nil || len(pending) != 2 {
				t.Errorf("inspected: %v, %v", pending, err)
			}
			if text, err := os.ReadFile(path); err != nil || string(text) != synced+end {
				t.Errorf("changed by who only looks: %q, %v", text, err)
			}
			resumed := resumeJournal(t, path)
			if diff := cmp.Diff([]string{"scaffold: volume", "scaffold: attachment"}, outstanding(t, resumed)); diff != "" {
				t.Errorf("outstanding (-want +got):\n%s", diff)
			}
			must(t, undoEntry(resumed.Outstanding()[0]))
			must(t, resumed.Close())
			next := resumeJournal(t, path)
			if diff := cmp.Diff([]string{"scaffold: volume"}, outstanding(t, next)); diff != "" {
				t.Errorf("outstanding for the next one (-want +got):\n%s", diff)
			}
			must(t, next.Close())
		})
	}
	must(t, j.Keep("scaffold"))
	must(t, j.Close())
}

// TestKilledBeforeFirstRecord checks that the journal of a build that was killed before its
// first record is removed.
func TestKilledBeforeFirstRecord(t *testing.T) {
	path := filepath.Join(testdir.New(t), "build-1.journal")
	must(t, os.WriteFile(path, nil, 0o600))
	if _, _, err := undo.Inspect(path); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("inspected: %v", err)
	}
	if _, err := resume(path); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("inherited: %v", err)
	}
	if _, err := os.Stat(path); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("its file: %v", err)
	}
}

// TestUntrustedJournals checks that journals that others may have written are not read.
func TestUntrustedJournals(t *testing.T) {
	j := newJournal(t, "build-1")
	armed(t, j, "scaffold", "volume")
	for name, change := range map[string]func(path string) error{
		"written by others": func(path string) error { return os.Chmod(path, 0o666) },
		"a link": func(path string) error {
			return errors.Join(os.Rename(path, path+"-there"), os.Symlink(path+"-there", path))
		},
		"another file": func(path string) error { return os.Link(path, path+"-there") },
		"a pipe":       func(path string) error { return errors.Join(os.Remove(path), unix.Mkfifo(path, 0o600)) },
		"a directory":  func(path string) error { return errors.Join(os.Remove(path), os.Mkdir(path, 0o700)) },
	} {
		path := copyOfJournal(t, j)
		must(t, change(path))
		if _, err := resume(path); err == nil || errors.Is(err, os.ErrNotExist) {
			t.Errorf("%s: inherited, %v", name, err)
		}
		if _, err := undo.Peek(path); err == nil {
			t.Errorf("%s: read", name)
		}
	}
	open := filepath.Join(testdir.New(t), "open")
	must(t, os.Mkdir(open, 0o700))
	must(t, os.Chmod(open, 0o777))
	if _, err := create(open, header("build-2")); err == nil || !strings.Contains(err.Error(), "0777") {
		t.Errorf("a journal is begun where others can write: %v", err)
	}
	if _, err := undo.Journals(open); err == nil {
		t.Error("journals are listed where others can write")
	}
	must(t, j.Keep("scaffold"))
	must(t, j.Close())
}

// TestRootIgnoresJournalsOfUsers checks that root reads no journal that another user could
// have written.
func TestRootIgnoresJournalsOfUsers(t *testing.T) {
	testroot.Need(t, "giving files to other users")
	const mallory = 45001
	for name, change := range map[string]func(path string) error{
		"the journal":   func(path string) error { return os.Lchown(path, mallory, mallory) },
		"the directory": func(path string) error { return os.Lchown(filepath.Dir(path), mallory, mallory) },
		"a link to the directory": func(path string) error {
			dir := filepath.Dir(path)
			return errors.Join(os.Rename(dir, dir+"-there"), os.Symlink(dir+"-there", dir), os.Lchown(dir, mallory, mallory))
		},
	} {
		for _, invoker := range []string{"", "45001"} { // mallory may use sudo for another purpose
			t.Setenv("SUDO_UID", invoker)
			j := newJournal(t, "build-1")
			armed(t, j, "scaffold", "volume")
			path := copyOfJournal(t, j)
			must(t, change(path))
			if _, err := resume(path); err == nil || errors.Is(err, os.ErrNotExist) {
				t.Errorf("%s is another user's: inherited, %v", name, err)
			}
			if _, _, err := undo.Inspect(path); err == nil || errors.Is(err, os.ErrNotExist) {
				t.Errorf("%s is another user's: inspected, %v", name, err)
			}
			if _, err := undo.Journals(filepath.Dir(path)); err == nil && name != "the journal" {
				t.Errorf("%s is another user's: it is listed", name)
			}
			if _, err := create(filepath.Dir(path), header("build-2")); err == nil && name != "the journal" {
				t.Errorf("%s is another user's: a journal is begun there", name)
			}
		}
	}
}

// unknown is an act that JSON cannot represent.
type unknown struct{ F func() }

func (unknown) String() string { return "unknown" }

func TestCreateRefuses(t *testing.T) {
	dir := testdir.New(t)
	must(t, os.Chmod(dir, 0o700))
	for _, build := range []string{"", "..", "a/b", ".hidden", "a b", strings.Repeat("a", 100)} {
		if _, err := create(dir, header(build)); err == nil {
			t.Errorf("a build is called %q", build)
		}
	}
	j, err := create(dir, header("twin"))
	must(t, err)
	if _, err := create(dir, header("twin")); !errors.Is(err, os.ErrExist) {
		t.Errorf("two builds have one journal: %v", err)
	}
	of := undo.New[unknown](nil)
	must(t, of.Begin(dir, header("unknown")))
	if _, err := of.Arm("scaffold", unknown{}); err == nil {
		t.Error("an act that JSON cannot represent is armed")
	}
	must(t, of.Close())
	must(t, j.Close())
	if _, err := j.Arm("scaffold", act{"late"}); !errors.Is(err, os.ErrClosed) {
		t.Errorf("armed after the end: %v", err)
	}
	if paths, err := undo.Journals(filepath.Join(dir, "missing")); err != nil || len(paths) > 0 {
		t.Errorf("journals where there is no directory: %q, %v", paths, err)
	}
}

// FuzzResume passes any content to the decoder. It must not panic, and accepted content must
// belong to its build.
func FuzzResume(f *testing.F) {
	f.Add([]byte(undo.Sealed(`{"verb":"build","header":{"version":1,"build":"build-1"}}`) +
		undo.Sealed(`{"verb":"armed","seq":1,"stack":"scaffold","act":{"kind":"volume"}}`) +
		undo.Sealed(`{"verb":"known","seq":1,"act":{"kind":"volume","volume":"vol-1"}}`)))
	f.Add([]byte("00000000 {}\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		for _, sealed := range []bool{false, true} {
			if sealed { // past the checksums
				var lines strings.Builder
				for line := range strings.Lines(string(text)) {
					lines.WriteString(undo.Sealed(strings.TrimSuffix(line, "\n")))
				}
				text = []byte(lines.String())
			}
			path := filepath.Join(testdir.New(t), "build-1.journal")
			must(t, os.WriteFile(path, text, 0o600))
			h, all, err := undo.Inspect(path)
			if err == nil && h.Build != "build-1" {
				t.Errorf("header %+v", h)
			}
			for i, r := range all {
				if i > 0 && r.Seq <= all[i-1].Seq || !json.Valid(r.Act) || r.Group == "" {
					t.Errorf("outstanding: %+v", all)
				}
			}
			l, resumed := undo.Resume[act](path)
			if (resumed == nil) != (err == nil) {
				t.Errorf("inspected: %v, and resumed: %v", err, resumed)
			}
			if resumed == nil {
				_ = l.Load(readAct, nil)
				_ = l.Close()
			}
		}
	})
}
