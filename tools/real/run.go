//go:build unix

package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"
)

// runFile is the file with a run's ID in the directory of its report.
const runFile = "run"

// runner is one run.
type runner struct {
	arguments
	environment
	cloud cloud
	id    string
	// dir is the absolute path of the report's directory.
	dir    string
	report report
}

// begin creates the report's directory.
func begin(o arguments, env environment, c cloud) (*runner, error) {
	var random [2]byte
	rand.Read(random[:]) // never fails
	r := &runner{arguments: o, environment: env, cloud: c, id: fmt.Sprintf("real-%s-%x", now(), random)}
	dir := o.report
	if dir == "" {
		dir = "real-" + o.cloud + "-" + now()
	}
	var err error
	if r.dir, err = filepath.Abs(dir); err != nil {
		return nil, err
	}
	// the directory of another run may be the only record of its remaining resources
	if err := os.Mkdir(r.dir, 0o700); err != nil {
		return nil, fmt.Errorf("cannot create the directory of the report: %w", err)
	}
	if err := os.Mkdir(filepath.Join(r.dir, "state"), 0o700); err != nil {
		return nil, err
	}
	if err := os.WriteFile(filepath.Join(r.dir, runFile), []byte(r.id+"\n"), 0o600); err != nil {
		return nil, err
	}
	r.report = report{path: filepath.Join(r.dir, "report.md"), cloud: o.cloud, run: r.id, region: env.region, currency: env.currency, begun: time.Now()}
	return r, nil
}

// run runs the builds and cleans up in every case.
func (r *runner) run(ctx context.Context, templates []template) error {
	var err error
	if r.report.account, err = r.cloud.account(ctx); err != nil {
		return err
	}
	fmt.Printf("run %s in account %s; the report is %s\n", r.id, r.report.account, r.report.path)
	built := r.runTemplates(ctx, templates)
	if r.keep && ctx.Err() == nil {
		fmt.Printf("kept; -clean %s removes it\n", r.dir)
		return errors.Join(built, r.report.write(), r.report.failed())
	}
	clean, cancel := context.WithTimeout(context.WithoutCancel(ctx), 30*time.Minute)
	defer cancel()
	err = r.finish(clean)
	return errors.Join(ctx.Err(), built, err, r.report.write(), r.report.failed())
}

// finish cleans up and adds the result to the report. If it returns nil, the report lists all
// remaining resources.
func (r *runner) finish(ctx context.Context) (err error) {
	r.report.removed, r.report.left, err = r.clean(ctx)
	if err == nil {
		r.report.ended = time.Now()
	}
	return err
}

// runTemplates runs the builds one after the other. It stops if the report cannot be written.
func (r *runner) runTemplates(ctx context.Context, templates []template) error {
	for _, t := range templates {
		r.report.results = append(r.report.results, result{template: t, verdict: "running"})
		if err := r.report.write(); err != nil {
			return err
		}
		res := r.runTemplate(ctx, t)
		r.report.results[len(r.report.results)-1] = res
		fmt.Printf("%-9s %s %s\n", res.verdict, t.file, res.reason)
	}
	return nil
}

// runTemplate runs one template and returns its result.
func (r *runner) runTemplate(ctx context.Context, t template) result {
	res := result{template: t, verdict: "skipped"}
	missing := t.missing()
	switch {
	case ctx.Err() != nil:
		res.reason = "interrupted"
		return res
	case len(missing) > 0:
		res.reason = strings.Join(missing, ", ") + " is not set"
		return res
	case t.host != "" && t.host != runtime.GOARCH:
		res.reason = "the host is " + runtime.GOARCH
		return res
	}
	begun := time.Now()
	err := r.buildAndCheck(ctx, t, &res)
	res.took = time.Since(begun)
	switch {
	case ctx.Err() != nil:
		res.verdict, res.reason = "failed", "interrupted"
	case err != nil:
		res.verdict, res.reason = "failed", err.Error()
	default:
		res.verdict = "passed"
	}
	return res
}

// buildAndCheck runs the builds of a template and checks their results.
func (r *runner) buildAndCheck(ctx context.Context, t template, res *result) error {
	f := r.flooded(ctx, t.flood)
	defer f.stop()
	for n := range t.runs {
		b := build{runner: r, template: t, log: fmt.Sprintf("%s-%d.log", t.file, n+1)}
		res.logs = append(res.logs, b.log)
		err := b.run(ctx)
		res.images = b.artifacts()
		if err := b.verdict(err); err != nil {
			return err
		}
	}
	if t.flood {
		f.stop()
		res.note = f.String()
		if f.throttled == 0 {
			return fmt.Errorf("the account was not throttled: %s", f)
		}
	}
	return r.checks(ctx, t, res.images)
}

// checks runs the checks on the images and their snapshots. A check without a resource fails.
func (r *runner) checks(ctx context.Context, t template, images []artifact) error {
	var wrong []error
	checked := map[string]bool{}
	for _, a := range images {
		resources, err := r.resources(ctx, a)
		if err != nil {
			return err
		}
		for _, c := range t.checks {
			if resource, ok := resources[c.of]; ok {
				checked[c.of] = true
				wrong = append(wrong, c.holds(resource))
			}
		}
	}
	for _, c := range t.checks {
		if !checked[c.of] {
			wrong = append(wrong, fmt.Errorf("there is no %s for %s", strings.ToLower(c.of), c))
		}
	}
	return errors.Join(wrong...)
}

// resources returns an image and its snapshot by the names that checks use.
func (r *runner) resources(ctx context.Context, a artifact) (map[string]any, error) {
	image, id, err := r.cloud.image(ctx, a.region, a.id)
	if err != nil {
		return nil, err
	}
	if a.region != r.region {
		return map[string]any{"Copy": image}, nil
	}
	snapshot, err := r.cloud.snapshot(ctx, a.region, id)
	if err != nil {
		return nil, err
	}
	return map[string]any{"Image": image, "Snapshot": snapshot}, nil
}

// clean removes the remaining resources of the run: it undoes killed builds by their
// journals, and then removes everything with the run's tag. It repeats both while something
// remains: a build that was killed just now may still hold its journal.
func (r *runner) clean(ctx context.Context) (removed, left []resource, err error) {
	for tries := 0; ; tries++ {
		if r.dir != "" {
			if err := r.reap(ctx, os.Stdout); err != nil {
				fmt.Fprintln(os.Stderr, "real:", err)
			}
		}
		left, err = r.cloud.tagged(ctx, r.id)
		if err == nil && len(left) == 0 || tries > 30 {
			return removed, left, err
		}
		if err != nil { // the account may still be throttled by the builds
			fmt.Fprintf(os.Stderr, "real: cannot list the remaining resources: %v\n", err)
		}
		for _, t := range left {
			if err := r.cloud.remove(ctx, t); err != nil {
				fmt.Fprintf(os.Stderr, "real: cannot remove %s: %v\n", t, err)
				continue
			}
			if !slices.Contains(removed, t) {
				removed = append(removed, t)
			}
		}
		if err := pause(ctx, time.Duration(min(tries, 10))*time.Second); err != nil {
			return removed, left, err
		}
	}
}

// reap undoes the killed builds of the run.
func (r *runner) reap(ctx context.Context, out *os.File) error {
	builder := clouds[r.arguments.cloud].environment.builder
	cmd := exec.CommandContext(ctx, filepath.Join(r.plugins, "packer-plugin-"+builder), "reap")
	cmd.Env = append(os.Environ(), "PACKER_CHROOT_STATE_DIR="+filepath.Join(r.dir, "state"))
	cmd.Stdout, cmd.Stderr = out, os.Stderr
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("cannot undo the killed builds: %w", err)
	}
	return nil
}

func pause(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(d):
		return nil
	}
}
