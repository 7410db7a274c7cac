//go:build unix

package main

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/packer-chroot/packer-plugin-chroot/testdir"
)

// fakeCloud returns prepared lists, one per call, and repeats the last one.
type fakeCloud struct {
	cloud
	lists []func() ([]resource, error)
}

func (f *fakeCloud) tagged(context.Context, string) ([]resource, error) {
	list := f.lists[0]
	if len(f.lists) > 1 {
		f.lists = f.lists[1:]
	}
	return list()
}

func (f *fakeCloud) remove(context.Context, resource) error { return nil }

func throttledList() ([]resource, error) { return nil, errors.New("RequestLimitExceeded") }

func listOf(all ...resource) func() ([]resource, error) {
	return func() ([]resource, error) { return all, nil }
}

// TestCleanIsThrottled checks that cleaning up continues if a list is throttled, as after a
// flood.
func TestCleanIsThrottled(t *testing.T) {
	volume := resource{kind: "volume", id: "vol-1", region: "r"}
	r := &runner{cloud: &fakeCloud{lists: []func() ([]resource, error){throttledList, listOf(volume), listOf()}}}
	if removed, left, err := r.clean(t.Context()); err != nil || len(removed) != 1 || removed[0] != volume || len(left) > 0 {
		t.Errorf("removed %v, left %v, %v", removed, left, err)
	}
}

// TestCleanReapsAgain checks that a build is undone although its journal was still held when
// cleaning up began, as right after a kill.
func TestCleanReapsAgain(t *testing.T) {
	dir := testdir.New(t)
	held := filepath.Join(dir, "held")
	if err := os.WriteFile(held, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	// the first reap finds the build living, and the second one undoes it
	reap := "#!/bin/sh\n[ -e " + dir + "/reaped ] && rm " + held + "\ntouch " + dir + "/reaped\n"
	if err := os.WriteFile(filepath.Join(dir, "packer-plugin-osc-chroot"), []byte(reap), 0o700); err != nil {
		t.Fatal(err)
	}
	volume := resource{kind: "volume", id: "vol-1", region: "r"}
	attached := func() ([]resource, error) {
		if _, err := os.Stat(held); err == nil {
			return []resource{volume}, nil
		}
		return nil, nil
	}
	r := &runner{arguments: arguments{cloud: "osc", plugins: dir}, dir: dir, cloud: &fakeCloud{lists: []func() ([]resource, error){attached}}}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if _, left, err := r.clean(ctx); err != nil || len(left) > 0 {
		t.Errorf("left %v, %v", left, err)
	}
}

// TestCleanFails checks that if the list of remaining resources fails, the report does not say
// that nothing is left.
func TestCleanFails(t *testing.T) {
	r := &runner{cloud: &fakeCloud{lists: []func() ([]resource, error){throttledList}}, id: "real-1"}
	r.report = report{path: filepath.Join(testdir.New(t), "report.md"), run: r.id}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	if err := r.finish(ctx); err == nil {
		t.Error("cleaning up succeeded")
	}
	if err := r.report.write(); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(r.report.path)
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(text), "may be left") || strings.Contains(string(text), "is left.") {
		t.Errorf("the report says:\n%s", text)
	}
}

// TestChecksWithoutResource checks that a check fails if the output names no resource.
func TestChecksWithoutResource(t *testing.T) {
	for _, of := range []string{"Image", "Snapshot", "Copy"} {
		err := new(runner).checks(t.Context(), template{checks: []check{{of, "State", "*"}}}, nil)
		if err == nil || !strings.Contains(err.Error(), "there is no "+strings.ToLower(of)+" for") {
			t.Errorf("%s: %v", of, err)
		}
	}
}
