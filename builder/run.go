package builder

import (
	"cmp"
	"context"
	"crypto/rand"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"sync/atomic"
	"time"

	"github.com/hashicorp/packer-plugin-sdk/common"
	packersdk "github.com/hashicorp/packer-plugin-sdk/packer"

	"github.com/packer-chroot/packer-plugin-chroot/bake"
	"github.com/packer-chroot/packer-plugin-chroot/event"
	"github.com/packer-chroot/packer-plugin-chroot/lazydisk/cache"
	"github.com/packer-chroot/packer-plugin-chroot/report"
	"github.com/packer-chroot/packer-plugin-chroot/version"
)

// lockDirEnv names the directory where the builds on a host reserve device
// names, if it is not bake's default.
const lockDirEnv = "PACKER_CHROOT_LOCK_DIR"

// Job is one build of a prepared configuration.
type Job struct {
	Kind
	Config *Config
	Packer common.PackerConfig
	// ImageName is rendered.
	ImageName string
	// LabelTexts are the cloud's options for texts of the labels. A later option takes precedence.
	LabelTexts []LabelText
	// RootThroughput is in MiB/s; 0 means the source's.
	RootThroughput int64
	// Waits says how to wait for the cloud; zero fields are bake's defaults.
	Waits bake.Waits
	// Direct reports whether the build needs no virtual machine, and BlockCache is the cache of the
	// blocks that it reads; its zero fields are those of the environment or the defaults.
	Direct     bool
	BlockCache cache.Options
	// Connect connects to the cloud and changes nothing there. log is told of choices that differ
	// from the template.
	Connect func(ctx context.Context, log func(format string, args ...any)) (Session, error)
	// Host is the machine of the build.
	Host Host
}

// Session is a cloud that was reached.
type Session struct {
	Cloud bake.Cloud
	// Endpoint is where the cloud's API is; empty where there is no choice.
	Endpoint string
}

// Host is the machine of builds. Zero fields stand for this machine.
type Host struct {
	// GOOS is the operating system.
	GOOS string
	// Machine does the local acts of a build, with the user's shell commands in a
	// wrapper.
	Machine func(ctx context.Context, wrapper func(string) (string, error)) (bake.Machine, error)
	// Bake makes the image.
	Bake func(context.Context, bake.Cloud, bake.Machine, bake.Plan, bake.Reporter) (bake.Result, error)
}

// withDefaults fills in zero fields. log is called with each decision of the machine. If ended is not nil, it is
// called instead with each holder of the root that the machine ends.
func (h Host) withDefaults(log, ended func(format string, args ...any)) Host {
	h.GOOS = cmp.Or(h.GOOS, runtime.GOOS)
	if h.Machine == nil {
		h.Machine = func(ctx context.Context, wrapper func(string) (string, error)) (bake.Machine, error) {
			limit, err := readWaitLimit()
			if err != nil {
				return nil, err
			}
			return bake.NewMachine(ctx, bake.Options{Wrapper: wrapper, Log: log, Ended: ended, KeeperTimeout: limit})
		}
	}
	if h.Bake == nil {
		h.Bake = bake.Build
	}
	return h
}

// machine returns the machine to build on. It fails where no chroot build can be
// done: not on Linux, or without root's rights.
func (h Host) machine(ctx context.Context, wrapper func(string) (string, error)) (bake.Machine, error) {
	if h.GOOS != "linux" {
		return nil, fmt.Errorf("a chroot build needs Linux, and this is %s: run packer on a virtual machine of the cloud", h.GOOS)
	}
	return h.Machine(ctx, wrapper)
}

// run is one build in progress, with the data of its steps for the artifact.
type run struct {
	Job
	ui      packersdk.Ui
	hook    packersdk.Hook
	report  *reporter
	onError *onError
	// id is the build's, and recorder records its events.
	id       bake.BuildID
	recorder *report.Recorder
	// generated is the data that provisioners were given.
	generated map[string]any
	// alone says that there is nobody to ask.
	alone atomic.Bool
}

// Run makes the image. On failure the artifact is nil.
func Run(ctx context.Context, ui packersdk.Ui, hook packersdk.Hook, job Job) (packersdk.Artifact, error) {
	for _, name := range job.Packer.PackerSensitiveVars {
		Hide(job.Packer.PackerUserVars[name])
	}
	r := &run{Job: job, ui: ui, hook: hook, id: bake.BuildID(rand.Text()), recorder: report.NewRecorder()}
	r.report = &reporter{ui: ui, recorder: r.recorder}
	r.onError = &onError{policy: job.Packer.PackerOnError, ui: ui, report: r.report}
	r.report.Step("%s %s (github.com/packer-chroot/packer-plugin-chroot)", job.Type, version.Plugin)
	if err := job.Config.checkReport(); err != nil {
		return nil, err
	}
	artifact, err := r.make(logged(ctx, r.report, r.recorder))
	all := r.reportBuild(artifact, err)
	if err != nil {
		return nil, err
	}
	artifact.report = all
	return artifact, nil
}

// make makes the image.
func (r *run) make(ctx context.Context) (*Artifact, error) {
	host := r.Host.withDefaults(r.report.Detail, r.ended)
	machine, session, err := r.start(event.In(ctx, stepStart), host)
	if machine != nil {
		defer func() {
			if err := machine.Close(); err != nil {
				r.report.Warn("%v", err)
			}
		}()
	}
	if err != nil {
		return nil, err
	}
	plan := r.plan(ctx)
	plan.Program, plan.Endpoint = r.Type, journalEndpoint(session.Endpoint)
	if plan.StateDir, err = stateDir(); err != nil {
		return nil, err
	}
	if r.Direct {
		if plan.BlockCache, err = cache.FromEnvironment(r.BlockCache); err != nil {
			return nil, err
		}
	}
	result, err := host.Bake(ctx, session.Cloud, machine, plan, r.report)
	if err != nil {
		return nil, err
	}
	return r.artifact(result, session.Cloud), nil
}

// ended reports a holder of the root that is ended.
func (r *run) ended(format string, args ...any) {
	r.report.Detail(format, args...)
	r.recorder.Hear(event.Holder{Text: fmt.Sprintf(format, args...)})
}

// stepStart is the name of the step before those of package bake.
const stepStart = "connect"

// start returns the machine, which must be closed if it is not nil, and connects to the cloud.
func (r *run) start(ctx context.Context, host Host) (machine bake.Machine, session Session, err error) {
	begun := time.Now()
	defer func() {
		event.Emit(ctx, event.Step{Name: stepStart, Took: time.Since(begun), Err: err})
	}()
	machine, err = host.machine(ctx, r.Config.wrap)
	if err != nil {
		return nil, session, err
	}
	session, err = r.Connect(ctx, r.report.Detail)
	return machine, session, err
}

// plan returns the plan of the build. Values that can be rendered only later are callbacks.
func (r *run) plan(ctx context.Context) bake.Plan {
	c := r.Config
	plan := bake.Plan{
		Build:        r.id,
		ImageName:    r.ImageName,
		FromScratch:  c.FromScratch,
		RootSizeGiB:  c.RootVolumeSize,
		RootType:     c.RootVolumeType,
		RootIOPS:     c.RootVolumeIOPS,
		Device:       bake.DeviceName(c.DevicePath),
		LockDir:      os.Getenv(lockDirEnv),
		Waits:        r.Waits.LimitedTo(c.WaitLimit()),
		MountPath:    c.renderMountPath,
		Partition:    c.MountPartition,
		NVMePath:     c.NVMEDevicePath,
		MountOptions: c.MountOptions,
		GrowRoot:     c.GrowRootFilesystem,
		MountFstab:   !c.MountFstab.False() && !c.MountBoot.False(),
		Mounts:       c.mounts(),
		CopyFiles:    c.CopyFiles,

		PassEnvironment: c.PassEnvironment,

		PreMount:   c.renderPreMount,
		PostMount:  c.renderPostMount,
		PreUnmount: c.renderPreUnmount,

		Direct: r.Direct,

		RootThroughput: r.RootThroughput,
		Replace:        c.ForceDeregister || r.Packer.PackerForce,
		DeleteReplaced: c.ForceDeleteSnapshot,

		BlockServices: c.BlockServices,
		CleanUploads:  c.CleanUploads,
		ListPackages:  c.Report != "",

		Labels:      r.labels,
		Provision:   r.provision,
		KeepOnError: func(failure error) bool { return r.onError.keeps(ctx, failure) },
	}
	if r.Packer.PackerDebug {
		plan.Pause = r.pause
	}
	return plan
}

func (c *Config) renderMountPath(device string) (string, error) {
	path, err := render(c.MountPath, c.ictx, map[string]any{fieldDevice: device})
	if err != nil {
		return "", fmt.Errorf("cannot render mount_path: %w", err)
	}
	if !filepath.IsAbs(path) {
		return "", fmt.Errorf("mount_path is %q, but must be an absolute path", path)
	}
	return filepath.Clean(path), nil
}

func (c *Config) renderPreMount(disk bake.Disk) ([]string, error) {
	return c.renderCommands("pre_mount_commands", c.PreMountCommands, disk, map[string]any{})
}

func (c *Config) renderPostMount(disk bake.Disk, mountPath string) ([]string, error) {
	return c.renderCommands("post_mount_commands", c.PostMountCommands, disk, map[string]any{fieldMountPath: mountPath})
}

func (c *Config) renderPreUnmount(disk bake.Disk, mountPath string) ([]string, error) {
	return c.renderCommands("pre_unmount_commands", c.PreUnmountCommands, disk, map[string]any{fieldMountPath: mountPath})
}

// renderCommands renders commands that speak of the disk and of its partitions.
func (c *Config) renderCommands(option string, texts []string, disk bake.Disk, data map[string]any) ([]string, error) {
	data[fieldDevice] = string(disk.Name)
	commands, err := renderAll(option, texts, c.ictx, data)
	for i, command := range commands {
		commands[i] = disk.Partitions(command)
	}
	return commands, err
}

// wrap puts a shell command into the user's command_wrapper.
func (c *Config) wrap(command string) (string, error) {
	wrapped, err := render(c.CommandWrapper, c.ictx, map[string]any{fieldCommand: command})
	if err != nil {
		return "", fmt.Errorf("cannot render command_wrapper: %w", err)
	}
	return wrapped, nil
}

// pause stops after a step until the user has seen enough (-debug). Where there
// is nobody to ask it goes on, and asks no more.
func (r *run) pause(ctx context.Context, step string) error {
	if r.alone.Load() {
		return nil
	}
	_, err := ask(ctx, r.ui, fmt.Sprintf("Pausing after %q. Press enter to continue.", step))
	if ctxErr := ctx.Err(); err != nil && ctxErr != nil {
		return fmt.Errorf("cannot go on after %q: %w", step, ctxErr)
	}
	if err != nil && !r.alone.Swap(true) {
		r.report.Detail("no user can be asked: continuing without pauses (%v)", err)
	}
	return nil
}
