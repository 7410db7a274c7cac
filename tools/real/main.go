//go:build unix

// Command real runs a directory of templates on a real cloud, one build after the other, and
// writes one report. It tags all resources of the builds with the ID of the run and with the
// budget tag, and removes the resources with the run's tag at the end, even after an
// interrupt. docs/real-clouds.md describes its use.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // a second interrupt ends the program at once
	err := run(ctx, os.Args[1:])
	if err != nil {
		fmt.Fprintln(os.Stderr, "real:", err)
		os.Exit(1)
	}
}

// arguments holds the command line.
type arguments struct {
	cloud, templates string
	only             string
	report, clean    string
	packer, plugins  string
	list, keep       bool
}

func parse(args []string) (arguments, error) {
	var o arguments
	f := flag.NewFlagSet("real", flag.ContinueOnError)
	f.Usage = func() {
		fmt.Fprintln(f.Output(), "usage: real [options] aws|osc TEMPLATES")
		f.PrintDefaults()
	}
	beside, _ := os.Executable()
	f.StringVar(&o.only, "only", "", "run only these builds, by their names, separated by commas")
	f.StringVar(&o.report, "report", "", "the directory to create for the report and the logs (default real-CLOUD-TIME)")
	f.StringVar(&o.clean, "clean", "", "build nothing, and remove the resources of a run, given the directory of its report or its id")
	f.StringVar(&o.packer, "packer", filepath.Join(filepath.Dir(beside), "packer"), "the packer to run")
	f.StringVar(&o.plugins, "plugins", filepath.Dir(beside), "the directory of the plugins' binaries, for reap")
	f.BoolVar(&o.keep, "keep", false, "keep the images, unless the run is interrupted; -clean removes them")
	f.BoolVar(&o.list, "list", false, "list the builds as rows of a table, and do nothing else")
	if err := f.Parse(args); err != nil {
		return o, err
	}
	if f.NArg() != 2 {
		f.Usage()
		return o, errors.New("a cloud and a directory of templates are required")
	}
	o.cloud, o.templates = f.Arg(0), f.Arg(1)
	return o, nil
}

func run(ctx context.Context, args []string) error {
	o, err := parse(args)
	if err != nil {
		return err
	}
	templates, err := readTemplates(o.templates)
	if err != nil {
		return err
	}
	if templates, err = pick(templates, o.only); err != nil {
		return err
	}
	if o.list {
		list(os.Stdout, templates)
		return nil
	}
	env, err := environmentOf(o.cloud, o.clean != "")
	if err != nil {
		return err
	}
	c, err := env.dial(ctx)
	if err != nil {
		return err
	}
	if o.clean != "" {
		return cleanUp(ctx, o, c)
	}
	r, err := begin(o, env, c)
	if err != nil {
		return err
	}
	return r.run(ctx, templates)
}

// cleanUp removes the remaining resources of another run.
func cleanUp(ctx context.Context, o arguments, c cloud) error {
	r := &runner{arguments: o, cloud: c, id: o.clean}
	if text, err := os.ReadFile(filepath.Join(o.clean, runFile)); err == nil {
		r.id, r.dir = strings.TrimSpace(string(text)), o.clean
	}
	if !runID.MatchString(r.id) {
		return fmt.Errorf("-clean %s: there is no run's report there, and it is no id of a run such as real-20260304-050607-abcd", o.clean)
	}
	removed, left, err := r.clean(ctx)
	for _, t := range removed {
		fmt.Println("removed", t)
	}
	for _, t := range left {
		fmt.Println("left", t)
	}
	if err == nil && len(left) > 0 {
		err = fmt.Errorf("%d resources are left", len(left))
	}
	return err
}

// pick returns the named templates, or all if there are no names.
func pick(all []template, only string) ([]template, error) {
	if only == "" {
		return all, nil
	}
	var picked []template
	for name := range strings.SplitSeq(only, ",") {
		i := slices.IndexFunc(all, func(t template) bool { return t.name == name || t.file == name })
		if i < 0 {
			return nil, fmt.Errorf("-only %s: no template is called %q", only, name)
		}
		picked = append(picked, all[i])
	}
	return picked, nil
}

// now returns the time for use in names.
func now() string { return time.Now().UTC().Format("20060102-150405") }
