package builder_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/hcl/v2/hcldec"

	"github.com/packer-chroot/packer-plugin-chroot/bake"
	"github.com/packer-chroot/packer-plugin-chroot/builder"
	"github.com/packer-chroot/packer-plugin-chroot/chroot"
	"github.com/packer-chroot/packer-plugin-chroot/version"
)

// planOf returns the plan that a build with the options is given.
func planOf(t *testing.T, j builder.Job) bake.Plan {
	t.Helper()
	var got bake.Plan
	_, err := build(t.Context(), t, &screen{}, noProvisioner, j, func(_ context.Context, plan bake.Plan, _ bake.Reporter) error {
		got = plan
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return got
}

func TestPlanOfOptions(t *testing.T) {
	t.Setenv("PACKER_CHROOT_LOCK_DIR", "")
	plan := planOf(t, job(t, map[string]any{
		"name": "web", "device_path": "/dev/sdg", "mount_partition": 2, "nvme_device_path": "/dev/nvme1n1p", "mount_options": []any{"ro"},
		"copy_files": []any{"/etc/hosts"}, "pass_environment": []any{"DEBIAN_FRONTEND"}, "chroot_mounts": []any{[]any{"bind", "/srv", "/srv"}, []any{"bind", "provisioning", "/provisioning"}, []any{"proc", "proc", "/proc"}},
		"root_volume_size": 7, "root_volume_type": "io1",
	}))
	if plan.ImageName != "web" || plan.Device != "/dev/sdg" || plan.Partition != "2" || plan.NVMePath != "/dev/nvme1n1p" || plan.RootSizeGiB != 7 || plan.RootType != "io1" || plan.FromScratch {
		t.Errorf("the plan is %+v", plan)
	}
	equal(t, "mount options", plan.MountOptions, []string{"ro"})
	equal(t, "copied files", plan.CopyFiles, []string{"/etc/hosts"})
	equal(t, "passed variables", plan.PassEnvironment, []string{"DEBIAN_FRONTEND"})
	here, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	equal(t, "mounts", plan.Mounts, []chroot.Submount{
		{Type: "bind", Source: "/srv", Target: "/srv", Temporary: true},
		{Type: "bind", Source: here + "/provisioning", Target: "/provisioning", Temporary: true},
		{Type: "proc", Source: "proc", Target: "/proc", Temporary: true},
	})
	for _, off := range []map[string]any{{"mount_fstab": false}, {"mount_boot": false}, {"mount_boot": false, "mount_fstab": false}} {
		if !plan.MountFstab || planOf(t, job(t, off)).MountFstab {
			t.Errorf("the fstab is to be mounted unless %v", off)
		}
	}
	if !planOf(t, job(t, map[string]any{"mount_boot": true})).MountFstab {
		t.Error("the fstab is not mounted with mount_boot")
	}
	if plan.GrowRoot || !planOf(t, job(t, map[string]any{"grow_root_filesystem": true})).GrowRoot {
		t.Error("the root grows when grow_root_filesystem is true, and else not")
	}
	if plan.LockDir != "" {
		t.Errorf("names are reserved in %s, not where every build does", plan.LockDir)
	}
	if plan.Pause != nil {
		t.Error("the build pauses without -debug")
	}
}

func TestPlanHasRootPerformance(t *testing.T) {
	j := job(t, map[string]any{"root_volume_type": "io1", "root_volume_iops": 400})
	j.RootThroughput, j.Waits.Lost = 200, time.Minute
	plan := planOf(t, j)
	if plan.RootIOPS != 400 || plan.RootThroughput != 200 || plan.Waits.Lost != time.Minute {
		t.Errorf("the plan is %+v", plan)
	}
}

// TestReplacing checks that -force deregisters an image as force_deregister does, and deletes
// no snapshot.
func TestReplacing(t *testing.T) {
	for name, test := range map[string]struct {
		give                    map[string]any
		replace, deleteReplaced bool
	}{
		"by default":            {nil, false, false},
		"force_deregister":      {map[string]any{"force_deregister": true}, true, false},
		"-force":                {map[string]any{"packer_force": true}, true, false},
		"force_delete_snapshot": {map[string]any{"force_deregister": true, "force_delete_snapshot": true}, true, true},
	} {
		plan := planOf(t, job(t, test.give))
		if plan.Replace != test.replace || plan.DeleteReplaced != test.deleteReplaced {
			t.Errorf("%s: replace %t, delete %t", name, plan.Replace, plan.DeleteReplaced)
		}
	}
}

func TestMountsByDefault(t *testing.T) {
	equal(t, "mounts", planOf(t, job(t, nil)).Mounts, chroot.DefaultMounts())
}

func TestBuildsHaveIDsOfTheirOwn(t *testing.T) {
	j := job(t, nil)
	if a, b := planOf(t, j).Build, planOf(t, j).Build; a == b || len(a) < 16 {
		t.Errorf("two builds have the ids %q and %q", a, b)
	}
}

func TestLockDirOfTheEnvironment(t *testing.T) {
	t.Setenv("PACKER_CHROOT_LOCK_DIR", "/somewhere")
	if dir := planOf(t, job(t, nil)).LockDir; dir != "/somewhere" {
		t.Errorf("names are reserved in %s", dir)
	}
}

func TestMountPath(t *testing.T) {
	for option, want := range map[string]string{
		"":                      "/mnt/packer-amazon-chroot-volumes/nvme1n1",
		"/mnt/a b/{{.Device}}/": "/mnt/a b/nvme1n1",
		"{{user `d`}}/x":        "/data/x",
		"{{.Device}}":           "", // not absolute
		"/{{if eq .Device `nvme1n1`}}{{index `a` .Device}}{{end}}": "", // fails with this device
	} {
		j := job(t, map[string]any{"mount_path": option, "packer_user_variables": map[string]any{"d": "/data"}})
		got, err := planOf(t, j).MountPath("nvme1n1")
		if got != want || (err == nil) != (want != "") {
			t.Errorf("mount_path %q becomes %q, %v; want %q", option, got, err, want)
		}
		if err != nil {
			mustContain(t, err.Error(), "mount_path")
		}
	}
}

var (
	xvdf = bake.Disk{Node: "/dev/xvdf", Name: "/dev/xvdf"}
	nvme = bake.Disk{Node: "/dev/nvme1n1", Name: "/dev/nvme1n1"}
)

func TestCommandsAreRendered(t *testing.T) {
	plan := planOf(t, job(t, map[string]any{
		"command_wrapper":       "sudo {{.Command}}",
		"pre_mount_commands":    []any{"mkfs {{.Device}}1", "echo '{{user `who`}}'"},
		"post_mount_commands":   []any{"ls {{.Device}} {{.MountPath}}"},
		"pre_unmount_commands":  []any{"fstrim {{.MountPath}}", "lsblk {{.Device}}"},
		"packer_user_variables": map[string]any{"who": "me"},
	}))
	pre, err := plan.PreMount(xvdf)
	if err != nil {
		t.Fatal(err)
	}
	equal(t, "pre_mount_commands", pre, []string{"mkfs /dev/xvdf1", "echo 'me'"})
	pre, err = plan.PreMount(nvme)
	if err != nil {
		t.Fatal(err)
	}
	equal(t, "pre_mount_commands on an NVMe disk", pre, []string{"mkfs /dev/nvme1n1p1", "echo 'me'"})
	post, err := plan.PostMount(xvdf, "/mnt/xvdf")
	if err != nil {
		t.Fatal(err)
	}
	equal(t, "post_mount_commands", post, []string{"ls /dev/xvdf /mnt/xvdf"})
	last, err := plan.PreUnmount(xvdf, "/mnt/xvdf")
	if err != nil {
		t.Fatal(err)
	}
	equal(t, "pre_unmount_commands", last, []string{"fstrim /mnt/xvdf", "lsblk /dev/xvdf"})
}

func TestCommandsThatCannotBeRendered(t *testing.T) {
	const fails = "{{if eq .Device `/dev/nvme1n1`}}{{index `x` .Device}}{{end}}"
	plan := planOf(t, job(t, map[string]any{
		"pre_mount_commands":   []any{"true", fails},
		"post_mount_commands":  []any{fails},
		"pre_unmount_commands": []any{fails},
	}))
	if _, err := plan.PreMount(nvme); err == nil || !strings.Contains(err.Error(), "pre_mount_commands[1]") {
		t.Errorf("got %v", err)
	}
	if _, err := plan.PostMount(nvme, "/mnt"); err == nil || !strings.Contains(err.Error(), "post_mount_commands[0]") {
		t.Errorf("got %v", err)
	}
	if _, err := plan.PreUnmount(nvme, "/mnt"); err == nil || !strings.Contains(err.Error(), "pre_unmount_commands[0]") {
		t.Errorf("got %v", err)
	}
}

func TestCleanupOptionsAreOffByDefault(t *testing.T) {
	plain := planOf(t, job(t, map[string]any{}))
	wanted := planOf(t, job(t, map[string]any{"block_services": true, "clean_uploads": "true"}))
	if plain.BlockServices || plain.CleanUploads || !wanted.BlockServices || !wanted.CleanUploads {
		t.Errorf("by default %t, %t, when wanted %t, %t", plain.BlockServices, plain.CleanUploads, wanted.BlockServices, wanted.CleanUploads)
	}
}

func TestLabels(t *testing.T) {
	plan := planOf(t, job(t, map[string]any{
		"description": "{{.SourceTMIName}} {{.SourceTMI}} {{.BuildRegion}}",
		"tags": map[string]any{
			"release":          "{{.SourceTMITags.Release}}",
			"{{.BuildRegion}}": "{{.SourceTMIOwner}} {{.SourceTMIOwnerName}}",
			"made":             "{{.SourceTMICreationDate}}",
			"none":             "{{.SourceTMITags.Missing}}",
		},
	}))
	labels, err := plan.Labels(facts)
	if err != nil {
		t.Fatal(err)
	}
	if want := "debian ami-1 eu-west-2"; labels.ImageDescription != want {
		t.Errorf("description %q, want %q", labels.ImageDescription, want)
	}
	for key, want := range map[string]string{"release": "12", "eu-west-2": "123 friends", "made": "2020-01-01", "none": ""} {
		if got, ok := labels.ImageTags[key]; !ok || got != want {
			t.Errorf("tag %s is %q, want %q", key, got, want)
		}
		if labels.SnapshotTags[key] != labels.ImageTags[key] {
			t.Errorf("the snapshot's tag %s is %q", key, labels.SnapshotTags[key])
		}
	}
	if len(labels.VolumeTags) != 0 {
		t.Errorf("the volume is tagged %v", labels.VolumeTags)
	}
}

// TestTagsOfTheSourceAreText checks that tags of the source image, which another user may own,
// are not rendered as templates on this host.
func TestTagsOfTheSourceAreText(t *testing.T) {
	plan := planOf(t, job(t, map[string]any{
		"tags":                  map[string]any{"t": "{{.SourceTMITags.Trap}}"},
		"packer_user_variables": map[string]any{"secret": "s3cret"},
	}))
	labels, err := plan.Labels(facts)
	if err != nil || labels.ImageTags["t"] != "{{user `secret`}}" {
		t.Errorf("tag is %q, %v", labels.ImageTags["t"], err)
	}
}

// TestErrorsHaveNoSecrets checks that secrets are hidden in the output of a command_wrapper,
// which is part of an error.
func TestErrorsHaveNoSecrets(t *testing.T) {
	builder.Hide("the-hidden-key")
	b := builder.Builder{Options: prepared{job(t, map[string]any{
		"packer_user_variables": map[string]any{"word": "the-sensitive-word"}, "packer_sensitive_variables": []any{"word"},
	})}, Host: builder.Host{GOOS: "linux", Machine: func(context.Context, func(string) (string, error)) (bake.Machine, error) {
		return nil, fmt.Errorf("it said the-hidden-key and the-sensitive-word: %w", context.DeadlineExceeded)
	}}}
	_, err := b.Run(t.Context(), &screen{}, hookFunc(noProvisioner))
	if err == nil || err.Error() != "it said <sensitive> and <sensitive>: context deadline exceeded" || !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("the error is %v", err)
	}
}

// prepared returns options that are already decoded.
type prepared struct{ job builder.Job }

func (p prepared) Job() builder.Job                                               { return p.job }
func (prepared) SetReach(builder.Reach)                                           {}
func (prepared) Prepare(...any) ([]string, error)                                 { return nil, nil }
func (prepared) FlatMapstructure() interface{ HCL2Spec() map[string]hcldec.Spec } { return nil }

func TestLabelsFromScratch(t *testing.T) {
	plan := planOf(t, job(t, map[string]any{"description": "[{{.SourceTMI}}{{.SourceTMITags.x}}] {{.BuildRegion}}"}))
	labels, err := plan.Labels(bake.Facts{Host: facts.Host})
	if err != nil || labels.ImageDescription != "[] eu-west-2" {
		t.Errorf("description %q, %v", labels.ImageDescription, err)
	}
}

func TestLabelsThatTheCloudWouldRefuse(t *testing.T) {
	for name, test := range map[string]struct {
		give map[string]any
		want string
	}{
		"description":      {map[string]any{"description": "{{.SourceTMI}}" + strings.Repeat("x", 36)}, "41 characters"},
		"key":              {map[string]any{"tags": map[string]any{"{{.SourceTMIName}}12345": ""}}, "debian12345"},
		"value":            {map[string]any{"tags": map[string]any{"k": strings.Repeat("v", 20) + "{{.SourceTMI}}"}}, `"k"`},
		"empty key":        {map[string]any{"tags": map[string]any{"{{.SourceTMITags.none}}": "v"}}, "empty key"},
		"reserved key":     {map[string]any{"tags": map[string]any{"Test:{{.SourceTMI}}": "v"}}, "Test:ami-1"},
		"not rendered":     {map[string]any{"description": "{{index `a` .BuildRegion}}"}, "description"},
		"tag not rendered": {map[string]any{"tags": map[string]any{"k": "{{index `a` .BuildRegion}}"}}, `"k"`},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := planOf(t, job(t, test.give)).Labels(facts)
			if err == nil {
				t.Fatal("accepted")
			}
			mustContain(t, err.Error(), test.want)
		})
	}
}

func TestFirstLineNamesThePluginAndItsVersion(t *testing.T) {
	ui := &screen{}
	if _, err := build(t.Context(), t, ui, noProvisioner, job(t, nil), func(_ context.Context, _ bake.Plan, report bake.Reporter) error {
		report.Step("working on %s", "it")
		report.Detail("a detail")
		report.Warn("take care")
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	if len(ui.lines) < 4 {
		t.Fatalf("told %q", ui.lines)
	}
	mustContain(t, ui.lines[0], "test-chroot", version.Version, "packer-plugin-chroot")
	equal(t, "lines", ui.lines[1:4], []string{"say working on it", "say     a detail", "error take care"})
}

func TestSecretsAreNotReported(t *testing.T) {
	builder.Hide("t0psecret")
	ui := &screen{}
	_, err := build(t.Context(), t, ui, noProvisioner, job(t, nil), func(_ context.Context, _ bake.Plan, report bake.Reporter) error {
		report.Warn("signed with t0psecret")
		return nil
	})
	if err != nil || strings.Contains(ui.text(), "t0psecret") {
		t.Errorf("%v: %s", err, ui.text())
	}
}

// TestHostsThatCannotBuild checks that the error is reported before the cloud is reached.
func TestHostsThatCannotBuild(t *testing.T) {
	notRoot := func(context.Context, func(string) (string, error)) (bake.Machine, error) {
		return nil, chroot.ErrNotRoot
	}
	for name, test := range map[string]struct {
		host builder.Host
		want string
	}{
		"not Linux": {builder.Host{GOOS: "plan9", Machine: anyMachine}, "needs Linux, and this is plan9"},
		"not root":  {builder.Host{GOOS: "linux", Machine: notRoot}, "needs root"},
	} {
		t.Run(name, func(t *testing.T) {
			j := job(t, nil)
			j.Host = test.host
			j.Connect = func(context.Context, func(string, ...any)) (builder.Session, error) {
				t.Error("the cloud was reached")
				return builder.Session{}, nil
			}
			artifact, err := builder.Run(t.Context(), &screen{}, hookFunc(noProvisioner), j)
			if err == nil || artifact != nil {
				t.Fatalf("got %v, %v", artifact, err)
			}
			mustContain(t, err.Error(), test.want)
		})
	}
}

// TestMachineGetsCommandWrapper checks that the machine renders the command_wrapper template,
// for commands on the host and for provisioners.
func TestMachineGetsCommandWrapper(t *testing.T) {
	j := job(t, map[string]any{
		"command_wrapper":       "sudo -u {{user `who`}} {{.Command}}",
		"packer_user_variables": map[string]any{"who": "root"},
	})
	broken := errors.New("no further")
	j.Host = builder.Host{GOOS: "linux", Machine: func(_ context.Context, wrapper func(string) (string, error)) (bake.Machine, error) {
		wrapped, err := wrapper("ls '{{x}}'")
		if want := "sudo -u root ls '{{x}}'"; err != nil || wrapped != want {
			t.Errorf("wrapped as %q, %v; want %q", wrapped, err, want)
		}
		return nil, broken
	}}
	if _, err := builder.Run(t.Context(), &screen{}, hookFunc(noProvisioner), j); !errors.Is(err, broken) {
		t.Errorf("got %v", err)
	}
}

// TestFailuresHaveNoArtifact checks that a failed build returns a nil artifact. A nil pointer
// in an interface would not be nil.
func TestFailuresHaveNoArtifact(t *testing.T) {
	unreachable := errors.New("unreachable")
	j := job(t, nil)
	j.Connect = func(context.Context, func(string, ...any)) (builder.Session, error) {
		return builder.Session{}, unreachable
	}
	j.Host = builder.Host{GOOS: "linux", Machine: anyMachine}
	if artifact, err := builder.Run(t.Context(), &screen{}, hookFunc(noProvisioner), j); artifact != nil || !errors.Is(err, unreachable) {
		t.Errorf("got %v, %v", artifact, err)
	}
	broken := errors.New("broken")
	artifact, err := build(t.Context(), t, &screen{}, noProvisioner, job(t, nil), func(context.Context, bake.Plan, bake.Reporter) error { return broken })
	if artifact != nil || !errors.Is(err, broken) {
		t.Errorf("got %v, %v", artifact, err)
	}
}

func TestDebugPausesAfterEachStep(t *testing.T) {
	ui := &screen{answers: []string{"", "any"}}
	_, err := build(t.Context(), t, ui, noProvisioner, job(t, map[string]any{"packer_debug": true}), func(ctx context.Context, plan bake.Plan, _ bake.Reporter) error {
		return errors.Join(plan.Pause(ctx, "attach the volume"), plan.Pause(ctx, "mount the root"))
	})
	if err != nil || len(ui.asked) != 2 {
		t.Fatalf("%v; asked %q", err, ui.asked)
	}
	mustContain(t, ui.asked[0], "attach the volume", "enter")
	mustContain(t, ui.asked[1], "mount the root")
}

func TestDebugWithoutTerminal(t *testing.T) {
	ui := &screen{mute: true}
	_, err := build(t.Context(), t, ui, noProvisioner, job(t, map[string]any{"packer_debug": true}), func(ctx context.Context, plan bake.Plan, _ bake.Reporter) error {
		return errors.Join(plan.Pause(ctx, "attach the volume"), plan.Pause(ctx, "mount the root"))
	})
	if err != nil || len(ui.asked) != 1 {
		t.Errorf("%v; asked %q, want once", err, ui.asked)
	}
	mustContain(t, ui.text(), "continuing without pauses", "no terminal")
}

func TestDebugPauseCanBeCancelled(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	_, err := build(ctx, t, &screen{onAsk: cancel}, noProvisioner, job(t, map[string]any{"packer_debug": true}), func(ctx context.Context, plan bake.Plan, _ bake.Reporter) error {
		return plan.Pause(ctx, "step")
	})
	if !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}

// TestAnInterruptedPauseIsACancel checks that the question is aborted before the build is told
// of the interrupt.
func TestAnInterruptedPauseIsACancel(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	ui := &screen{mute: true, onMute: func() { go cancel() }}
	_, err := build(ctx, t, ui, noProvisioner, job(t, map[string]any{"packer_debug": true}), func(ctx context.Context, plan bake.Plan, _ bake.Reporter) error {
		return plan.Pause(ctx, "step")
	})
	if !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}

// TestOnErrorWithoutProvisionerFailure checks whether resources are kept after a failure outside of
// provisioners.
func TestOnErrorWithoutProvisionerFailure(t *testing.T) {
	tests := []struct {
		policy  string
		answers []string
		keep    bool
		asked   int
		says    string
	}{
		{policy: "", keep: false},
		{policy: "cleanup", keep: false},
		{policy: "abort", keep: true, says: "-on-error=abort"},
		{policy: "run-cleanup-provisioner", keep: true, says: "-on-error=run-cleanup-provisioner"},
		{policy: "ask", answers: []string{"c"}, keep: false, asked: 1, says: "no attachment"},
		{policy: "ask", answers: []string{""}, keep: false, asked: 1},
		{policy: "ask", answers: []string{"A"}, keep: true, asked: 1, says: "-on-error=ask"},
		{policy: "ask", answers: []string{"what", "r", "a"}, keep: true, asked: 3, says: `"what"`},
	}
	for _, test := range tests {
		t.Run(test.policy+strings.Join(test.answers, ","), func(t *testing.T) {
			ui := &screen{answers: test.answers}
			kept := false
			_, err := build(t.Context(), t, ui, noProvisioner, job(t, map[string]any{"packer_on_error": test.policy}), func(_ context.Context, plan bake.Plan, _ bake.Reporter) error {
				failure := errors.New("no attachment")
				kept = plan.KeepOnError(failure)
				if plan.KeepOnError(failure) != kept {
					t.Error("the second answer is not the first")
				}
				return failure
			})
			if err == nil || kept != test.keep || len(ui.asked) != test.asked {
				t.Errorf("%v; kept %v, asked %q", err, kept, ui.asked)
			}
			mustContain(t, ui.text(), test.says)
		})
	}
}

func TestAskingCanBeCancelled(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	_, err := build(ctx, t, &screen{onAsk: cancel}, noProvisioner, job(t, map[string]any{"packer_on_error": "ask"}), func(_ context.Context, plan bake.Plan, _ bake.Reporter) error {
		failure := errors.New("failed")
		if plan.KeepOnError(failure) {
			t.Error("a cancelled build is kept")
		}
		return failure
	})
	if err == nil {
		t.Error("no error")
	}
}

func TestOnErrorAskWithoutTerminal(t *testing.T) {
	_, err := build(t.Context(), t, &screen{mute: true}, noProvisioner, job(t, map[string]any{"packer_on_error": "ask"}), func(_ context.Context, plan bake.Plan, _ bake.Reporter) error {
		failure := errors.New("failed")
		if plan.KeepOnError(failure) {
			t.Error("kept")
		}
		return failure
	})
	if err == nil {
		t.Error("no error")
	}
}
