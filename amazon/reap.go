package amazon

import (
	"context"

	"github.com/packer-chroot/packer-plugin-chroot/builder"
)

// MaybeReap cleans up after killed builds, if this process was started with the
// argument reap, and then does not return.
func MaybeReap() {
	builder.MaybeReap(builder.Reaper{Program: "packer-plugin-amazon-chroot", Kind: kind, Connect: connectToReap})
}

// connectToReap reaches the cloud for somebody who has no template.
func connectToReap(ctx context.Context, to builder.Reach) (builder.Session, error) {
	client, err := Dial(ctx, Access{Region: to.Region, Profile: to.Profile, Endpoint: to.Endpoint, Patience: to.Patience})
	if err != nil {
		return builder.Session{}, err
	}
	return builder.Session{Cloud: NewCloud(Options{Client: client}), Endpoint: client.Endpoint()}, nil
}
