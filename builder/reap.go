package builder

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/url"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/packer-chroot/packer-plugin-chroot/bake"
	"github.com/packer-chroot/packer-plugin-chroot/chroot"
	"github.com/packer-chroot/packer-plugin-chroot/event"
)

// stateDirEnv names the directory of the builds' journals, if it is not the default.
const stateDirEnv = "PACKER_CHROOT_STATE_DIR"

// stateDir returns the directory of this user's journals.
func stateDir() (string, error) {
	const name = "packer-chroot"
	if dir := os.Getenv(stateDirEnv); dir != "" {
		return filepath.Abs(dir)
	}
	if os.Geteuid() == 0 {
		return filepath.Join("/var/lib", name), nil
	}
	if dir := os.Getenv("XDG_STATE_HOME"); filepath.IsAbs(dir) {
		return filepath.Join(dir, name), nil
	}
	home, err := os.UserHomeDir()
	if err != nil {
		return "", fmt.Errorf("no directory to remember builds in: set %s: %w", stateDirEnv, err)
	}
	return filepath.Join(home, ".local", "state", name), nil
}

// journalEndpoint returns an endpoint as journals have it: without secret parts of a URL.
func journalEndpoint(endpoint string) string {
	u, err := url.Parse(endpoint)
	if err != nil {
		return ""
	}
	u.User, u.RawQuery, u.Fragment = nil, "", ""
	return u.String()
}

// Exit statuses of the command reap.
const (
	// ReapClean: nothing is left of any killed build.
	ReapClean = 0
	// ReapLeft: something is left, or could not be looked for.
	ReapLeft = 1
	// ReapUsage: the command line is wrong.
	ReapUsage = 2
)

// Reaper is a plugin's command reap, which cleans up after killed builds.
type Reaper struct {
	// Program is the plugin's file name, and Kind the builder's.
	Program string
	Kind    Kind
	// Connect connects to the cloud with the keys of the environment.
	Connect func(context.Context, Reach) (Session, error)
	// Host is where the builds were.
	Host Host
}

// Reach holds the command reap's options for the connection to the cloud. An empty field is as in a
// template without that option.
type Reach struct {
	Region   string `flag:"region REGION" usage:"the region of the builds"`
	Profile  string `flag:"profile NAME" usage:"the profile to take keys from"`
	Endpoint string `flag:"endpoint URL" usage:"where the cloud's API is, as in the template"`
	// WaitLimit is Config.WaitLimit.
	WaitLimit time.Duration
}

// reapArg is the first argument of a plugin that is to reap.
const reapArg = "reap"

// MaybeReap reaps, if this process was started to, and then does not return. A plugin
// calls it before it speaks to Packer.
func MaybeReap(r Reaper) {
	if len(os.Args) < 2 || os.Args[1] != reapArg {
		return
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	status := r.Run(ctx, os.Args[2:], os.Stdout, os.Stderr)
	stop()
	os.Exit(status)
}

// reapFlags holds the command's options. A flag sets each field with a flag tag, here and in the
// nested structs: see flagsOf.
type reapFlags struct {
	Reaping bake.Reaping
	Reach   Reach
	JSON    bool   `flag:"json" usage:"print a list of builds as JSON"`
	Wrapper string `flag:"command-wrapper TEXT" usage:"how to become root, such as 'sudo {{.Command}}'"`
	Forget  string `flag:"forget BUILD" usage:"print what the journal of one build names, and remove it"`
}

const reapUsage = `Usage: %s reap [flags]

Cleans up after builds of %s on this host that were killed: mounts, the attached
volume or the disk of a build without one, and what was begun of snapshots and images. Builds that are running are not
touched. Keys come from the environment or a profile, as in a template without any.

%s
The default of --state-dir is $%s, or %s.
With --forget nothing is undone, and no cloud is asked. With --dry-run the journal
stays. A running build is refused.

The exit status is 0 when nothing is left, 1 when something is, which may be another
region's or account's, and 2 when the command line is wrong.
`

func (r Reaper) parse(args []string) (f reapFlags, err error) {
	f.Wrapper = defaultCommandWrapper
	set := flagSet(reapArg, &f)
	if err := set.Parse(args); err != nil {
		return f, err
	}
	if set.NArg() > 0 {
		return f, fmt.Errorf("%q is one argument too many", set.Arg(0))
	}
	set.Visit(func(given *flag.Flag) {
		if given.Name == "forget" && f.Forget == "" {
			err = errors.New("--forget needs the id of a build, as reap --dry-run prints it")
		}
	})
	if err != nil {
		return f, err
	}
	if f.Reaping.StateDir != "" {
		f.Reaping.StateDir, err = filepath.Abs(f.Reaping.StateDir)
	}
	return f, err
}

// Run runs the command with its arguments and returns the exit status.
func (r Reaper) Run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	dir, dirErr := stateDir()
	f, err := r.parse(args)
	if errors.Is(err, flag.ErrHelp) {
		fmt.Fprintf(stdout, reapUsage, r.Program, r.Kind.Type, flagUsage(&f), stateDirEnv, dir)
		return ReapClean
	}
	if err != nil {
		fmt.Fprintf(stderr, "%s reap: %v; see --help\n", r.Program, err)
		return ReapUsage
	}
	if f.Reaping.StateDir = cmp.Or(f.Reaping.StateDir, dir); f.Reaping.StateDir == "" {
		fmt.Fprintf(stderr, "%s reap: %v\n", r.Program, dirErr)
		return ReapLeft
	}
	all, err := r.reap(event.Listen(ctx, delays{terminal{stderr}}), f, terminal{stderr})
	if err != nil {
		fmt.Fprintf(stderr, "%s reap: %v\n", r.Program, err)
		return ReapLeft
	}
	if err := f.print(stdout, all); err != nil {
		fmt.Fprintf(stderr, "%s reap: %v\n", r.Program, err)
		return ReapLeft
	}
	return statusOf(all)
}

// reap connects to the cloud and becomes root only if there is something to do: a journal whose
// build does not run.
func (r Reaper) reap(ctx context.Context, f reapFlags, report bake.Reporter) (all []bake.Remains, err error) {
	if f.Forget != "" {
		found, err := bake.Forget(f.Reaping.StateDir, f.Forget, f.Reaping.DryRun)
		return []bake.Remains{found}, err
	}
	if !f.Reaping.DryRun {
		chroot.SweepSockets()
	}
	if f.Reach.WaitLimit, err = readWaitLimit(); err != nil {
		return nil, err
	}
	running, others, err := f.Reaping.Running()
	if err != nil || !others {
		return running, err
	}
	session, err := r.Connect(ctx, f.Reach)
	if err != nil {
		return nil, err
	}
	var machine bake.Machine
	if !f.Reaping.DryRun {
		machine, err = r.Host.withDefaults(report.Detail, nil).machine(ctx, (&Config{CommandWrapper: f.Wrapper}).wrap)
		if err != nil {
			return nil, err
		}
		defer func() {
			if err := machine.Close(); err != nil {
				report.Warn("%v", err)
			}
		}()
	}
	f.Reaping.LockDir, f.Reaping.Waits = os.Getenv(lockDirEnv), bake.Waits{}.LimitedTo(f.Reach.WaitLimit)
	f.Reaping.Program, f.Reaping.Endpoint = r.Kind.Type, journalEndpoint(session.Endpoint)
	return bake.Reap(ctx, session.Cloud, machine, report, f.Reaping)
}

// statusOf is 0 when nothing is left but of builds that live.
func statusOf(all []bake.Remains) int {
	for _, remains := range all {
		if !slices.Contains([]bake.Fate{bake.Removed, bake.Living, bake.Forgotten}, remains.Fate) {
			return ReapLeft
		}
	}
	return ReapClean
}

// print prints a line or a JSON value for each build.
func (f reapFlags) print(to io.Writer, all []bake.Remains) error {
	if f.JSON {
		enc := json.NewEncoder(to)
		enc.SetIndent("", "  ")
		return enc.Encode(append([]bake.Remains{}, all...))
	}
	for _, remains := range all {
		if _, err := fmt.Fprintln(to, describe(remains)); err != nil {
			return err
		}
	}
	return nil
}

// describe returns a line of text about a build.
func describe(r bake.Remains) string {
	build := fmt.Sprintf("build %s", r.Build)
	if !r.Start.IsZero() {
		build += " of " + r.Start.Format(time.RFC3339)
	}
	parts := []string{build + ": " + string(r.Fate)}
	if len(r.Undone) > 0 {
		parts = append(parts, "undone: "+strings.Join(r.Undone, ", "))
	}
	if len(r.Pending) > 0 {
		parts = append(parts, pendingTitle(r.Fate)+strings.Join(r.Pending, ", "))
	}
	if r.Problem != "" {
		parts = append(parts, r.Problem)
	}
	return strings.Join(parts, "; ")
}

// pendingTitle returns the heading of the acts in a journal.
func pendingTitle(fate bake.Fate) string {
	if fate == bake.Forgotten {
		return "not undone: "
	}
	return "to undo: "
}

// terminal reports to the user of the command.
type terminal struct{ to io.Writer }

// Step implements bake.Reporter.
func (t terminal) Step(format string, args ...any) { fmt.Fprintf(t.to, format+"\n", args...) }

// Detail implements bake.Reporter.
func (t terminal) Detail(format string, args ...any) { fmt.Fprintf(t.to, format+"\n", args...) }

// Warn implements bake.Reporter.
func (t terminal) Warn(format string, args ...any) {
	fmt.Fprintf(t.to, "warning: "+format+"\n", args...)
}
