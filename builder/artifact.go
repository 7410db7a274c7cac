package builder

import (
	"context"
	"fmt"
	"strings"
	"time"

	registryimage "github.com/hashicorp/packer-plugin-sdk/packer/registry/image"

	"github.com/packer-chroot/packer-plugin-chroot/bake"
	"github.com/packer-chroot/packer-plugin-chroot/report"
)

// destroyLimit bounds Artifact.Destroy, to which Packer gives no context.
const destroyLimit = 10 * time.Minute

const (
	// stateGenerated is the key of the generated data of provisioners, for post-processors.
	stateGenerated = "generated_data"
	// stateReport is the key of the report of the build, a string of JSON.
	stateReport = "build_report"
)

// Artifact is the images that a build made.
type Artifact struct {
	kind      Kind
	products  []bake.Product // sorted by region
	source    bake.ImageID
	generated map[string]any
	cloud     bake.Cloud
	report    report.Report
}

func (r *run) artifact(result bake.Result, cloud bake.Cloud) *Artifact {
	a := &Artifact{kind: r.Kind, products: result.Products, generated: r.generated, cloud: cloud}
	if result.Source != nil {
		a.source = result.Source.ID
	}
	return a
}

// BuilderId implements packersdk.Artifact.
func (a *Artifact) BuilderId() string { return a.kind.ID } //nolint:revive // the interface spells it so

// Files implements packersdk.Artifact: an image is no file.
func (a *Artifact) Files() []string { return nil }

// Id implements packersdk.Artifact: region:image, sorted and joined with commas.
func (a *Artifact) Id() string { //nolint:revive // the interface spells it so
	var ids []string
	for _, p := range a.products {
		ids = append(ids, p.Region+":"+string(p.Image))
	}
	return strings.Join(ids, ",")
}

// String implements packersdk.Artifact: a heading and a line for each region.
func (a *Artifact) String() string {
	var s strings.Builder
	fmt.Fprintf(&s, "%ss were created:\n", a.kind.Image)
	for _, p := range a.products {
		fmt.Fprintf(&s, "%s: %s\n", p.Region, p.Image)
	}
	return s.String()
}

// State implements packersdk.Artifact. It returns the generated data of provisioners, the report,
// and the images in the form of HCP Packer's registry.
func (a *Artifact) State(name string) any {
	switch name {
	case stateGenerated:
		return a.generated
	case stateReport:
		return a.reportText()
	case registryimage.ArtifactStateURI:
		return a.registryImages()
	}
	return nil
}

func (a *Artifact) registryImages() []*registryimage.Image {
	images := make([]*registryimage.Image, 0, len(a.products))
	for _, p := range a.products {
		images = append(images, &registryimage.Image{
			ImageID:        string(p.Image),
			ProviderName:   a.kind.Provider,
			ProviderRegion: p.Region,
			SourceImageID:  string(a.source),
			Labels:         a.labels(),
		})
	}
	return images
}

// Destroy implements packersdk.Artifact: it deletes the images and the snapshots made for them, in
// every region. It tries all of them; its error names those that remain.
func (a *Artifact) Destroy() error {
	ctx, cancel := context.WithTimeout(context.Background(), destroyLimit)
	defer cancel()
	var errs []error
	for _, p := range a.products {
		if err := bake.Destroy(ctx, a.cloud, p); err != nil {
			errs = append(errs, fmt.Errorf("cannot destroy %s in %s: %w", p.Image, p.Region, err))
		}
	}
	return Join(errs)
}
