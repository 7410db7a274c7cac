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

// Reach says how the command reap reaches the cloud; an empty field is as in a template without
// that option.
type Reach struct {
	Region, Profile, Endpoint string
	// Patience is Config.Patience.
	Patience time.Duration
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

// reapFlags are the command's.
type reapFlags struct {
	Reach
	dryRun, json bool
	stateDir     string
	wrapper      string
	forget       string
}

const reapUsage = `Usage: %s reap [flags]

Cleans up after builds of %s on this host that were killed: mounts, the attached
volume, and what was begun of snapshots and images. Builds that are running are not
touched. Keys come from the environment or a profile, as in a template without any.

  --dry-run               tell what would be undone, and change nothing
  --json                  print a list of builds as JSON
  --state-dir DIR         the directory of the builds' journals
                          (default $%s, or %s)
  --region REGION         the region of the builds
  --profile NAME          the profile to take keys from
  --endpoint URL          where the cloud's API is, as in the template
  --command-wrapper TEXT  how to become root, such as "sudo {{.Command}}"
  --forget BUILD          print what the journal of one build names, and remove the
                          journal; nothing is undone, and no cloud is asked. With
                          --dry-run the journal stays. A running build is refused

The exit status is 0 when nothing is left, 1 when something is, which may be another
region's or account's, and 2 when the command line is wrong.
`

func (r Reaper) parse(args []string) (f reapFlags, err error) {
	set := flag.NewFlagSet(reapArg, flag.ContinueOnError)
	set.SetOutput(io.Discard)
	set.BoolVar(&f.dryRun, "dry-run", false, "")
	set.BoolVar(&f.json, "json", false, "")
	set.StringVar(&f.stateDir, "state-dir", "", "")
	set.StringVar(&f.Region, "region", "", "")
	set.StringVar(&f.Profile, "profile", "", "")
	set.StringVar(&f.Endpoint, "endpoint", "", "")
	set.StringVar(&f.forget, "forget", "", "")
	set.StringVar(&f.wrapper, "command-wrapper", defaultCommandWrapper, "")
	if err := set.Parse(args); err != nil {
		return f, err
	}
	if set.NArg() > 0 {
		return f, fmt.Errorf("%q is one argument too many", set.Arg(0))
	}
	set.Visit(func(given *flag.Flag) {
		if given.Name == "forget" && f.forget == "" {
			err = errors.New("--forget needs the id of a build, as reap --dry-run prints it")
		}
	})
	if err != nil {
		return f, err
	}
	if f.stateDir != "" {
		f.stateDir, err = filepath.Abs(f.stateDir)
	}
	return f, err
}

// Run runs the command with its arguments and returns the exit status.
func (r Reaper) Run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	dir, dirErr := stateDir()
	f, err := r.parse(args)
	if errors.Is(err, flag.ErrHelp) {
		fmt.Fprintf(stdout, reapUsage, r.Program, r.Kind.Type, stateDirEnv, dir)
		return ReapClean
	}
	if err != nil {
		fmt.Fprintf(stderr, "%s reap: %v; --help tells what there is\n", r.Program, err)
		return ReapUsage
	}
	if f.stateDir = cmp.Or(f.stateDir, dir); f.stateDir == "" {
		fmt.Fprintf(stderr, "%s reap: %v\n", r.Program, dirErr)
		return ReapLeft
	}
	all, err := r.reap(event.Listen(ctx, held{terminal{stderr}}), f, terminal{stderr})
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
	if f.forget != "" {
		found, err := bake.Forget(f.stateDir, f.forget, f.dryRun)
		return []bake.Remains{found}, err
	}
	if !f.dryRun {
		chroot.SweepSockets()
	}
	if f.Patience, err = patience(); err != nil {
		return nil, err
	}
	running, others, err := bake.Running(f.stateDir)
	if err != nil || !others {
		return running, err
	}
	session, err := r.Connect(ctx, f.Reach)
	if err != nil {
		return nil, err
	}
	var machine bake.Machine
	if !f.dryRun {
		machine, err = r.Host.withDefaults(report.Detail).machine(ctx, (&Config{CommandWrapper: f.wrapper}).wrap)
		if err != nil {
			return nil, err
		}
		defer func() {
			if err := machine.Close(); err != nil {
				report.Warn("%v", err)
			}
		}()
	}
	return bake.Reap(ctx, session.Cloud, machine, report, bake.Reaping{
		StateDir: f.stateDir, LockDir: os.Getenv(lockDirEnv), Program: r.Kind.Type, Endpoint: journalEndpoint(session.Endpoint), DryRun: f.dryRun,
		Waits: bake.Waits{}.Patient(f.Patience),
	})
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

// print tells of each build.
func (f reapFlags) print(to io.Writer, all []bake.Remains) error {
	if f.json {
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

// describe tells of a build in a line for a person.
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
