package bake

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/packer-chroot/packer-plugin-chroot/undo"
)

// directHost begins the HostID of a direct build, which is that of this machine. A virtual machine
// of a cloud has another ID.
const directHost = "machine:"

// host returns the host of the build. That of a direct build need not be a virtual machine.
func (b *build) host(ctx context.Context) (Host, error) {
	if !b.plan.Direct {
		return b.cloud.Host(ctx)
	}
	if b.store == nil {
		return Host{}, errors.New("this cloud has no snapshots that are written block by block")
	}
	return place(ctx, b.store)
}

// place returns this machine as the host of direct builds.
func place(ctx context.Context, store BlockStore) (Host, error) {
	host, err := store.Place(ctx)
	host.ID = machineID()
	return host, err
}

// machineID returns the identity of this machine, which its journals have. It is the same after
// a boot, and in every container that has this machine's /etc/machine-id.
func machineID() HostID {
	id, err := os.ReadFile("/etc/machine-id")
	if text := strings.TrimSpace(string(id)); err == nil && text != "" {
		return HostID(directHost + text)
	}
	name, _ := os.Hostname()
	return HostID(directHost + name)
}

// isDirect reports whether a journal is that of a direct build.
func isDirect(h undo.Header) bool { return strings.HasPrefix(h.Host, directHost) }

// reportHost reports where the build runs.
func (b *build) reportHost(host Host) {
	if b.plan.Direct {
		b.report.Detail("no virtual machine is needed: the image is made in %s of account %s", host.Region, host.Account)
		return
	}
	b.report.Detail("host %s in %s", host.ID, host.Zone)
}

// basis returns the content of a direct disk.
func (b *build) basis(ctx context.Context, from preflight) (Basis, error) {
	if !b.plan.Direct {
		return Basis{}, nil
	}
	basis, err := b.store.Basis(ctx, from.Facts, from.publication)
	switch {
	case err != nil:
		return Basis{}, err
	case basis.Parent != "" && basis.Parent != basis.Read:
		return Basis{}, fmt.Errorf("the cloud wants the changes of %s to be uploaded against %s", basis.Read, basis.Parent)
	case basis.Reason != "":
		b.report.Detail("%s", basis.Reason)
	}
	return basis, nil
}
