package builder_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"syscall"
	"testing"

	packersdk "github.com/hashicorp/packer-plugin-sdk/packer"

	"github.com/packer-chroot/packer-plugin-chroot/chroot"
)

// retrying uploads until that succeeds, as Packer's shell provisioner does, whatever the
// error, until it is cancelled.
func retrying(ctx context.Context, tries int, comm packersdk.Communicator) error {
	var err error
	for range tries {
		if err = comm.Upload("/tmp/script.sh", strings.NewReader("x"), nil); err == nil || ctx.Err() != nil {
			return err
		}
	}
	return fmt.Errorf("retried in vain: %w", err)
}

// TestHopelessUploadsEndTheBuild checks that the build fails with the cause, and not after the
// time for which a provisioner retries.
func TestHopelessUploadsEndTheBuild(t *testing.T) {
	for _, cause := range []error{chroot.ErrHidden, syscall.EROFS, syscall.ENOTDIR, syscall.ENOSPC} {
		tried := 0
		r := &root{upload: func() error {
			tried++
			return &os.PathError{Op: "open", Path: "/tmp/script.sh", Err: cause}
		}}
		_, err := provision(t, &screen{}, r, nil, func(ctx context.Context, name string, comm packersdk.Communicator, _ map[string]any) error {
			if name != packersdk.HookProvision {
				return nil
			}
			err := retrying(ctx, 1000, comm)
			<-ctx.Done()
			return err
		})
		if !errors.Is(err, cause) || !strings.Contains(err.Error(), "/tmp/script.sh") {
			t.Errorf("error %v", err)
		}
		if tried < 2 || tried > 100 {
			t.Errorf("%v was tried %d times", cause, tried)
		}
	}
}

// TestOtherUploadsAreTriedAgain checks that uploads are retried after errors that may pass,
// and after errors that occur once.
func TestOtherUploadsAreTriedAgain(t *testing.T) {
	errs := []error{syscall.EIO, syscall.EIO, os.ErrNotExist, syscall.EROFS, os.ErrNotExist, syscall.EROFS, syscall.EBUSY, nil, syscall.ENOSPC, nil}
	at := 0
	r := &root{upload: func() error {
		at++
		return errs[at-1]
	}}
	_, err := provision(t, &screen{}, r, nil, func(ctx context.Context, _ string, comm packersdk.Communicator, _ map[string]any) error {
		return errors.Join(retrying(ctx, 100, comm), retrying(ctx, 100, comm))
	})
	if err != nil || at != len(errs) {
		t.Errorf("%v after %d uploads", err, at)
	}
}

// TestHopelessRemovalEndsTheBuild checks that a removal that cannot succeed fails the build.
// Packer's shell provisioner retries the removal of its script until it succeeds, and no
// cancel reaches it meanwhile.
func TestHopelessRemovalEndsTheBuild(t *testing.T) {
	for name, next := range map[string]func(context.Context, packersdk.Communicator) error{
		"the last one":     func(context.Context, packersdk.Communicator) error { return nil },
		"one more follows": func(ctx context.Context, comm packersdk.Communicator) error { return retrying(ctx, 1000, comm) },
	} {
		t.Run(name, func(t *testing.T) { hopelessRemoval(t, next) })
	}
}

func hopelessRemoval(t *testing.T, next func(context.Context, packersdk.Communicator) error) {
	tried := 0
	r := &root{run: func(_ context.Context, c chroot.Command) (int, error) {
		tried++
		fmt.Fprintln(c.Stderr, "rm: can't remove '/tmp/script.sh': Read-only file system")
		return 1, nil
	}}
	_, err := provision(t, &screen{}, r, nil, func(ctx context.Context, name string, comm packersdk.Communicator, _ map[string]any) error {
		for range 1000 {
			if name != packersdk.HookProvision {
				return nil
			}
			cmd := &packersdk.RemoteCmd{Command: "rm -f /tmp/script.sh"}
			if err := comm.Start(context.Background(), cmd); err != nil {
				return err
			}
			if cmd.Wait() == 0 {
				return next(ctx, comm)
			}
		}
		return errors.New("retried in vain")
	})
	if err == nil || !strings.Contains(err.Error(), "Read-only file system") || !strings.Contains(err.Error(), "rm -f /tmp/script.sh") {
		t.Errorf("error %v", err)
	}
	if tried != 2 {
		t.Errorf("tried %d times", tried)
	}
}
