package builder

import (
	"context"
	"fmt"
	"log"
	"maps"
	"os"
	"time"

	packersdk "github.com/hashicorp/packer-plugin-sdk/packer"

	"github.com/packer-chroot/packer-plugin-chroot/bake"
)

// hookLimit bounds the wait for provisioners that were told to stop.
const hookLimit = 15 * time.Second

// provision runs the provisioners in the root, and after a failure the
// error-cleanup-provisioner, if the user did not want things left as they are.
func (r *run) provision(ctx context.Context, w bake.Workplace) (err error) {
	r.generated = r.hookData(w)
	maps.Copy(r.generated, unknownHere())
	comm := newCommunicator(ctx, w.Root)
	defer func() {
		if closeErr := comm.close(); closeErr != nil && err == nil {
			err = closeErr
		}
	}()
	for {
		failure := r.fire(ctx, packersdk.HookProvision, comm)
		if failure == nil {
			return nil
		}
		switch r.onError.decide(ctx, "Provisioning", failure, true) {
		case retry:
			continue
		case keep:
			if r.onError.policy != onErrorRunCleanup {
				return failure
			}
		}
		return r.cleanUpProvisioning(ctx, comm, failure)
	}
}

// cleanUpProvisioning runs the error-cleanup-provisioner, but not after a cancel.
func (r *run) cleanUpProvisioning(ctx context.Context, comm packersdk.Communicator, failure error) error {
	if ctx.Err() != nil {
		return failure
	}
	r.report.Step("Provisioning failed: running the error-cleanup-provisioner, if there is one...")
	if err := r.fire(ctx, packersdk.HookCleanupProvision, comm); err != nil {
		return fmt.Errorf("%w; and the error-cleanup-provisioner: %w", failure, err)
	}
	return failure
}

// fire runs a hook. When ctx ends the hook is told so; it is waited for, so that
// nobody works in a root that is being left, but not for ever.
//
// It also ends, with the cause, if the communicator finds that trying again is in vain:
// Packer's shell provisioner would do so for five minutes, and not say why.
//
// A hook that is fired and cancelled in one breath may miss the cancel: Packer's
// RPC drops one that comes before the call. So after a cancel none is fired.
func (r *run) fire(ctx context.Context, name string, comm packersdk.Communicator) error {
	if ctx.Err() != nil {
		return stopped(ctx)
	}
	ctx, giveUp := context.WithCancelCause(ctx)
	defer giveUp(nil)
	if c, ok := comm.(*communicator); ok {
		c.hopeless(giveUp)
	}
	done := make(chan error, 1)
	data := maps.Clone(r.generated)
	go func() { done <- r.hook.Run(ctx, name, r.ui, comm, data) }()
	select {
	case err := <-done:
		if err != nil && ctx.Err() != nil {
			return stopped(ctx)
		}
		if c, ok := comm.(*communicator); ok && err == nil {
			err = c.doomedBy()
		}
		return err
	case <-ctx.Done():
	}
	select {
	case err := <-done:
		log.Printf("%s ended after the cancel: %v", name, err)
	case <-time.After(hookLimit):
		log.Printf("%s did not end within %v of the cancel", name, hookLimit)
	}
	return stopped(ctx)
}

func stopped(ctx context.Context) error {
	return fmt.Errorf("provisioning was stopped: %w", context.Cause(ctx))
}

// unknownHere are data that Packer's own provisioners expect of every builder. A chroot has no
// instance that is connected to and serves no files over HTTP; the texts are those of the SDK
// (commonsteps, which would double the size of the plugin with its communicators and download
// clients).
func unknownHere() map[string]any {
	return map[string]any{
		"ID":             "ERR_ID_NOT_IMPLEMENTED_BY_BUILDER",
		"PackerRunUUID":  os.Getenv("PACKER_RUN_UUID"),
		"PackerHTTPIP":   "ERR_HTTP_IP_NOT_IMPLEMENTED_BY_BUILDER",
		"PackerHTTPPort": "ERR_HTTP_PORT_NOT_IMPLEMENTED_BY_BUILDER",
		"PackerHTTPAddr": "ERR_HTTP_ADDR_NOT_IMPLEMENTED_BY_BUILDER",
	}
}
