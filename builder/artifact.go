package builder

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	registryimage "github.com/hashicorp/packer-plugin-sdk/packer/registry/image"

	"github.com/packer-chroot/packer-plugin-chroot/bake"
)

// destroyLimit bounds Artifact.Destroy, to which Packer gives no context.
const destroyLimit = 10 * time.Minute

// stateGenerated is the key under which post-processors find what provisioners
// were told.
const stateGenerated = "generated_data"

// Artifact is the images that a build made, one for each region.
type Artifact struct {
	kind      Kind
	images    map[string]Made // by region
	source    bake.ImageID
	generated map[string]any
	destroy   func(context.Context, Made) error
}

// Made is an image that a build made, and the snapshot that it is made of.
type Made struct {
	Region   string
	Image    bake.ImageID
	Snapshot bake.SnapshotID
}

func (r *run) artifact(result bake.Result, destroy func(context.Context, Made) error) *Artifact {
	a := &Artifact{
		kind:      r.Kind,
		images:    map[string]Made{result.Region: {result.Region, result.Image, result.Snapshot}},
		generated: r.generated,
		destroy:   destroy,
	}
	if result.Source != nil {
		a.source = result.Source.ID
	}
	return a
}

func (a *Artifact) regions() []string { return slices.Sorted(maps.Keys(a.images)) }

// BuilderId implements packersdk.Artifact.
func (a *Artifact) BuilderId() string { return a.kind.ID } //nolint:revive // the interface spells it so

// Files implements packersdk.Artifact: an image is no file.
func (a *Artifact) Files() []string { return nil }

// Id implements packersdk.Artifact: region:image, sorted and joined with commas.
func (a *Artifact) Id() string { //nolint:revive // the interface spells it so
	var ids []string
	for _, region := range a.regions() {
		ids = append(ids, region+":"+string(a.images[region].Image))
	}
	return strings.Join(ids, ",")
}

// String implements packersdk.Artifact: a heading and a line for each region.
func (a *Artifact) String() string {
	var s strings.Builder
	fmt.Fprintf(&s, "%ss were created:\n", a.kind.Image)
	for _, region := range a.regions() {
		fmt.Fprintf(&s, "%s: %s\n", region, a.images[region].Image)
	}
	return s.String()
}

// State implements packersdk.Artifact. It knows what provisioners were told, and
// the images as HCP Packer's registry wants to be told of them.
func (a *Artifact) State(name string) any {
	switch name {
	case stateGenerated:
		return a.generated
	case registryimage.ArtifactStateURI:
		return a.registryImages()
	}
	return nil
}

func (a *Artifact) registryImages() []*registryimage.Image {
	images := make([]*registryimage.Image, 0, len(a.images))
	for _, region := range a.regions() {
		images = append(images, &registryimage.Image{
			ImageID:        string(a.images[region].Image),
			ProviderName:   a.kind.Provider,
			ProviderRegion: region,
			SourceImageID:  string(a.source),
		})
	}
	return images
}

// Destroy implements packersdk.Artifact: it deletes the images and the snapshots
// that they are made of. All are tried; what could not be deleted is told.
func (a *Artifact) Destroy() error {
	ctx, cancel := context.WithTimeout(context.Background(), destroyLimit)
	defer cancel()
	var errs []error
	for _, region := range a.regions() {
		if err := a.destroy(ctx, a.images[region]); err != nil {
			errs = append(errs, fmt.Errorf("cannot destroy %s in %s: %w", a.images[region].Image, region, err))
		}
	}
	return Join(errs)
}
