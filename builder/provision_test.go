package builder_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	packersdk "github.com/hashicorp/packer-plugin-sdk/packer"

	"github.com/packer-chroot/packer-plugin-chroot/bake"
	"github.com/packer-chroot/packer-plugin-chroot/builder"
	"github.com/packer-chroot/packer-plugin-chroot/chroot"
	"github.com/packer-chroot/packer-plugin-chroot/testdir"
)

// provision runs one build with the hook as its provisioners.
func provision(t *testing.T, ui *screen, r *root, options map[string]any, hook hookFunc) (packersdk.Artifact, error) {
	t.Helper()
	return build(t.Context(), t, ui, hook, job(t, options), provisioning(r))
}

func TestProvisionersGetGeneratedData(t *testing.T) {
	t.Setenv("PACKER_RUN_UUID", "run-1")
	var told map[string]any
	artifact, err := provision(t, &screen{}, &root{}, nil, func(_ context.Context, name string, _ packersdk.Communicator, data map[string]any) error {
		if name != packersdk.HookProvision {
			t.Errorf("fired %s", name)
		}
		told = data
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for key, want := range map[string]string{
		"Device": "/dev/xvdf", "MountPath": "/mnt/xvdf", "BuildRegion": "eu-west-2",
		"SourceTMI": "ami-1", "SourceTMIName": "debian", "SourceTMIOwner": "123", "SourceTMIOwnerName": "friends", "SourceTMICreationDate": "2020-01-01",
		"PackerRunUUID": "run-1", "PackerHTTPAddr": "ERR_HTTP_ADDR_NOT_IMPLEMENTED_BY_BUILDER", "ID": "ERR_ID_NOT_IMPLEMENTED_BY_BUILDER",
	} {
		if told[key] != want {
			t.Errorf("%s is %v, want %s", key, told[key], want)
		}
	}
	for _, promised := range kind.GeneratedData() {
		if _, ok := told[promised]; !ok {
			t.Errorf("Prepare promises %s, which provisioners are not told", promised)
		}
	}
	kept, _ := artifact.State("generated_data").(map[string]any)
	if kept["Device"] != "/dev/xvdf" {
		t.Errorf("post-processors are told %v", kept)
	}
}

func TestGeneratedData(t *testing.T) {
	equal(t, "names", kind.GeneratedData(), []string{
		"BuildRegion", "Device", "MountPath", "SourceTMI", "SourceTMICreationDate", "SourceTMIName", "SourceTMIOwner", "SourceTMIOwnerName",
	})
}

// TestSourceFieldsOfTheCloud checks that a field that only one cloud has is accepted in a template of
// the description, and given to it and to provisioners.
func TestSourceFieldsOfTheCloud(t *testing.T) {
	j := job(t, nil)
	j.SourceFields = []builder.SourceField{{Suffix: "Kernel", Value: func(i bake.Image) string { return "kernel of " + i.Name }}}
	j.LabelTexts = []builder.LabelText{builder.Description("tmi_description", "from {{ .SourceTMIKernel }}")}
	if !slices.Contains(j.GeneratedData(), "SourceTMIKernel") {
		t.Errorf("the names are %q", j.GeneratedData())
	}
	var told map[string]any
	hook := hookFunc(func(_ context.Context, _ string, _ packersdk.Communicator, data map[string]any) error {
		told = data
		return nil
	})
	_, err := build(t.Context(), t, &screen{}, hook, j, func(ctx context.Context, p bake.Plan, to bake.Reporter) error {
		labels, err := p.Labels(bake.Facts{Source: &bake.Image{Name: "debian"}})
		if err != nil || labels.ImageDescription != "from kernel of debian" {
			t.Errorf("the description is %q, %v", labels.ImageDescription, err)
		}
		return provisioning(&root{})(ctx, p, to)
	})
	if err != nil {
		t.Fatal(err)
	}
	if told["SourceTMIKernel"] != "kernel of debian" {
		t.Errorf("provisioners are told %v", told)
	}
}

func TestCommandsRunInTheRoot(t *testing.T) {
	r := &root{run: func(_ context.Context, c chroot.Command) (int, error) {
		in, err := io.ReadAll(c.Stdin)
		if err != nil {
			return 0, err
		}
		_, _ = c.Stdout.Write(append([]byte("read "), in...))
		_, _ = io.WriteString(c.Stderr, "complained")
		return 3, nil
	}}
	_, err := provision(t, &screen{}, r, nil, func(ctx context.Context, _ string, comm packersdk.Communicator, _ map[string]any) error {
		var out, errs lockedBuffer
		cmd := &packersdk.RemoteCmd{Command: "echo '$HOME'", Stdin: strings.NewReader("input"), Stdout: &out, Stderr: &errs}
		if err := comm.Start(ctx, cmd); err != nil {
			return err
		}
		if status := cmd.Wait(); status != 3 || out.String() != "read input" || errs.String() != "complained" {
			t.Errorf("status %d, output %q, errors %q", status, out.String(), errs.String())
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	equal(t, "calls", r.calls, []string{"run echo '$HOME'"})
}

func TestCommandThatCannotRun(t *testing.T) {
	r := &root{run: func(context.Context, chroot.Command) (int, error) { return 0, errors.New("no /bin/sh in the image") }}
	for _, withStderr := range []bool{true, false} {
		_, err := provision(t, &screen{}, r, nil, func(ctx context.Context, _ string, comm packersdk.Communicator, _ map[string]any) error {
			cmd := &packersdk.RemoteCmd{Command: "true"}
			var errs lockedBuffer
			if withStderr {
				cmd.Stderr = &errs
			}
			if err := comm.Start(ctx, cmd); err != nil {
				return err
			}
			if status := cmd.Wait(); status != 126 {
				t.Errorf("status %d", status)
			}
			if withStderr {
				mustContain(t, errs.String(), "no /bin/sh in the image")
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
}

func TestStartDoesNotWait(t *testing.T) {
	release := make(chan struct{})
	r := &root{run: func(context.Context, chroot.Command) (int, error) { <-release; return 0, nil }}
	_, err := provision(t, &screen{}, r, nil, func(ctx context.Context, _ string, comm packersdk.Communicator, _ map[string]any) error {
		cmd := &packersdk.RemoteCmd{Command: "sleep"}
		if err := comm.Start(ctx, cmd); err != nil {
			return err
		}
		close(release) // would never be reached
		if status := cmd.Wait(); status != 0 {
			t.Errorf("status %d", status)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

func TestFilesGoInAndOut(t *testing.T) {
	path := filepath.Join(testdir.New(t), "f")
	if err := os.WriteFile(path, nil, 0o640); err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	r := &root{files: map[string]string{"/etc/hosts": "localhost"}}
	_, err = provision(t, &screen{}, r, nil, func(_ context.Context, _ string, comm packersdk.Communicator, _ map[string]any) error {
		var out bytes.Buffer
		err := errors.Join(
			comm.Upload("/a b", strings.NewReader("one"), &info),
			comm.Upload("relative/c", strings.NewReader("two"), nil),
			comm.UploadDir("/dir/", "/src/", []string{"x"}),
			comm.DownloadDir("/from", "/to", []string{"y"}),
			comm.Download("etc/hosts", &out),
		)
		if out.String() != "localhost" {
			t.Errorf("downloaded %q", out.String())
		}
		if err := comm.Download("/missing", &out); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("downloading what is not there: %v", err)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	equal(t, "calls", r.calls, []string{
		"upload /a b f 640 one",
		"upload /relative/c  644 two",
		"uploaddir /dir/ from /src/ without [x]",
		"downloaddir /from to /to without [y]",
	})
}

// TestNothingRunsOnAfterProvisioning checks that a command that a provisioner has given up on,
// as after a timeout, ends with provisioning.
func TestNothingRunsOnAfterProvisioning(t *testing.T) {
	ended := make(chan struct{})
	r := &root{run: func(ctx context.Context, _ chroot.Command) (int, error) {
		<-ctx.Done()
		close(ended)
		return 0, ctx.Err()
	}}
	var kept packersdk.Communicator
	_, err := provision(t, &screen{}, r, nil, func(ctx context.Context, _ string, comm packersdk.Communicator, _ map[string]any) error {
		kept = comm
		return comm.Start(ctx, &packersdk.RemoteCmd{Command: "sleep 1000"})
	})
	if err != nil {
		t.Fatal(err)
	}
	select {
	case <-ended:
	default:
		t.Error("a command runs on when the root is left")
	}
	if err := kept.Start(t.Context(), &packersdk.RemoteCmd{Command: "true"}); err == nil {
		t.Error("a command can be started when the root is left")
	}
	if err := kept.Upload("/x", strings.NewReader(""), nil); err == nil {
		t.Error("a file can be uploaded when the root is left")
	}
}

func TestCancelEndsTheCommandAndTheHook(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	r := &root{run: func(ctx context.Context, _ chroot.Command) (int, error) {
		cancel()
		<-ctx.Done()
		return 0, ctx.Err()
	}}
	fired := []string{}
	hook := func(ctx context.Context, name string, comm packersdk.Communicator, _ map[string]any) error {
		fired = append(fired, name)
		// over RPC the context of a command never ends
		cmd := &packersdk.RemoteCmd{Command: "sleep 1000"}
		if err := comm.Start(context.WithoutCancel(ctx), cmd); err != nil {
			return err
		}
		cmd.Wait()
		return errors.New("interrupted")
	}
	_, err := build(ctx, t, &screen{}, hook, job(t, nil), provisioning(r))
	if !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	equal(t, "hooks", fired, []string{packersdk.HookProvision})
}

func TestNoHookIsFiredAfterACancel(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	fired := false
	hook := func(context.Context, string, packersdk.Communicator, map[string]any) error {
		fired = true
		return nil
	}
	provision := provisioning(&root{})
	_, err := build(ctx, t, &screen{}, hook, job(t, nil), func(ctx context.Context, plan bake.Plan, report bake.Reporter) error {
		cancel()
		return provision(ctx, plan, report)
	})
	if !errors.Is(err, context.Canceled) || fired {
		t.Errorf("got %v, fired %v", err, fired)
	}
}

// TestFailedProvisioning checks the called hooks and the kept resources for each value of
// -on-error.
func TestFailedProvisioning(t *testing.T) {
	const run, clean = packersdk.HookProvision, packersdk.HookCleanupProvision
	tests := []struct {
		policy  string
		answers []string
		fired   []string
		keep    bool
	}{
		{policy: "cleanup", fired: []string{run, clean}},
		{policy: "abort", fired: []string{run}, keep: true},
		{policy: "run-cleanup-provisioner", fired: []string{run, clean}, keep: true},
		{policy: "ask", answers: []string{"c"}, fired: []string{run, clean}},
		{policy: "ask", answers: []string{"a"}, fired: []string{run}, keep: true},
		{policy: "ask", answers: []string{"r", "r", "c"}, fired: []string{run, run, run, clean}},
	}
	for _, test := range tests {
		t.Run(test.policy+strings.Join(test.answers, ","), func(t *testing.T) {
			failed := errors.New("script exited with 1")
			ui := &screen{answers: slices.Clone(test.answers)}
			var fired []string
			artifact, err := provision(t, ui, &root{}, map[string]any{"packer_on_error": test.policy}, func(_ context.Context, name string, _ packersdk.Communicator, _ map[string]any) error {
				fired = append(fired, name)
				if name == clean {
					return nil
				}
				return failed
			})
			if artifact != nil || !errors.Is(err, failed) {
				t.Errorf("got %v, %v", artifact, err)
			}
			if kept := strings.HasPrefix(err.Error(), "kept"); kept != test.keep {
				t.Errorf("kept %v, want %v", kept, test.keep)
			}
			equal(t, "hooks", fired, test.fired)
			if len(ui.asked) != len(test.answers) {
				t.Errorf("asked %q", ui.asked)
			}
		})
	}
}

func TestARetryCanSucceed(t *testing.T) {
	runs := 0
	artifact, err := provision(t, &screen{answers: []string{"r"}}, &root{}, map[string]any{"packer_on_error": "ask"}, func(context.Context, string, packersdk.Communicator, map[string]any) error {
		if runs++; runs == 1 {
			return errors.New("once")
		}
		return nil
	})
	if err != nil || artifact == nil || runs != 2 {
		t.Errorf("got %v, %v after %d runs", artifact, err, runs)
	}
}

func TestFailedCleanupProvisionerIsReported(t *testing.T) {
	first, second := errors.New("first"), errors.New("second")
	_, err := provision(t, &screen{}, &root{}, nil, func(_ context.Context, name string, _ packersdk.Communicator, _ map[string]any) error {
		if name == packersdk.HookProvision {
			return first
		}
		return second
	})
	if !errors.Is(err, first) || !errors.Is(err, second) {
		t.Errorf("got %v", err)
	}
}
