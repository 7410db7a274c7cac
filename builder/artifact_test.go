package builder_test

import (
	"context"
	"errors"
	"testing"

	registryimage "github.com/hashicorp/packer-plugin-sdk/packer/registry/image"

	packersdk "github.com/hashicorp/packer-plugin-sdk/packer"
	"github.com/packer-chroot/packer-plugin-chroot/bake"
	"github.com/packer-chroot/packer-plugin-chroot/builder"
)

// artifactOf returns the artifact of a build with the result.
func artifactOf(t *testing.T, result bake.Result, cloud bake.Cloud) packersdk.Artifact {
	t.Helper()
	j := job(t, nil)
	j.Connect = func(context.Context, func(string, ...any)) (builder.Session, error) {
		return builder.Session{Cloud: cloud}, nil
	}
	j.Host = builder.Host{GOOS: "linux", Machine: anyMachine, Bake: func(context.Context, bake.Cloud, bake.Machine, bake.Plan, bake.Reporter) (bake.Result, error) {
		return result, nil
	}}
	artifact, err := builder.Run(t.Context(), &screen{}, hookFunc(noProvisioner), j)
	if err != nil {
		t.Fatal(err)
	}
	return artifact
}

var result = bake.Result{
	Products: []bake.Product{
		{Region: "eu-west-2", Image: "ami-2", Snapshots: []bake.SnapshotID{"snap-2", "snap-3"}},
		{Region: "us-east-2", Image: "ami-4", Snapshots: []bake.SnapshotID{"snap-4"}},
	},
	Source: facts.Source,
}

func TestArtifactNamesItsImage(t *testing.T) {
	a := artifactOf(t, result, nil)
	for what, got := range map[string][2]string{
		"id":         {a.Id(), "eu-west-2:ami-2,us-east-2:ami-4"},
		"builder id": {a.BuilderId(), "test.chroot"},
		"text":       {a.String(), "TMIs were created:\neu-west-2: ami-2\nus-east-2: ami-4\n"},
	} {
		if got[0] != got[1] {
			t.Errorf("%s is %q, want %q", what, got[0], got[1])
		}
	}
	if files := a.Files(); files != nil {
		t.Errorf("files %v", files)
	}
	if state := a.State("anything"); state != nil {
		t.Errorf("unknown state is %v", state)
	}
}

func TestArtifactRegistryMetadata(t *testing.T) {
	scratch := result
	scratch.Source = nil
	for source, r := range map[string]bake.Result{"ami-1": result, "": scratch} {
		images, ok := artifactOf(t, r, nil).State(registryimage.ArtifactStateURI).([]*registryimage.Image)
		if !ok || len(images) != len(r.Products) {
			t.Fatalf("images %v", images)
		}
		for i, got := range images {
			want := registryimage.Image{ImageID: string(r.Products[i].Image), ProviderName: "test", ProviderRegion: r.Products[i].Region, SourceImageID: source}
			if got.ImageID != want.ImageID || got.ProviderName != want.ProviderName || got.ProviderRegion != want.ProviderRegion || got.SourceImageID != want.SourceImageID {
				t.Errorf("got %+v, want %+v", got, want)
			}
			if err := got.Validate(); err != nil {
				t.Errorf("the registry refuses it: %v", err)
			}
		}
	}
}

// ruins is a cloud of which only the deleting is used. Images in a stuck region stay.
type ruins struct {
	bake.Cloud
	t         *testing.T
	destroyed *[]string
	region    string
	stuck     string
}

func (c ruins) In(region string) bake.Cloud {
	c.region = region
	return c
}

func (c ruins) did(ctx context.Context, what string) error {
	if _, bounded := ctx.Deadline(); !bounded {
		c.t.Error("destroying has no deadline")
	}
	if c.region == c.stuck {
		return errors.New("the cloud says no")
	}
	*c.destroyed = append(*c.destroyed, c.region+":"+what)
	return nil
}

func (c ruins) Deregister(ctx context.Context, id bake.ImageID) error { return c.did(ctx, string(id)) }

func (c ruins) Image(context.Context, bake.ImageID) (bake.Image, error) {
	return bake.Image{}, bake.ErrNotFound
}

func (c ruins) FindImages(context.Context, bake.SnapshotID) ([]bake.ImageID, error) { return nil, nil }

func (c ruins) DeleteSnapshot(ctx context.Context, id bake.SnapshotID) error {
	return c.did(ctx, string(id))
}

func TestDestroy(t *testing.T) {
	var destroyed []string
	if err := artifactOf(t, result, ruins{t: t, destroyed: &destroyed}).Destroy(); err != nil {
		t.Fatal(err)
	}
	equal(t, "destroyed", destroyed, []string{"eu-west-2:ami-2", "eu-west-2:snap-2", "eu-west-2:snap-3", "us-east-2:ami-4", "us-east-2:snap-4"})
}

func TestDestroyReportsRemainingResources(t *testing.T) {
	var destroyed []string
	err := artifactOf(t, result, ruins{t: t, destroyed: &destroyed, stuck: "eu-west-2"}).Destroy()
	if err == nil {
		t.Fatal("no error")
	}
	mustContain(t, err.Error(), "ami-2", "eu-west-2", "the cloud says no")
	equal(t, "destroyed", destroyed, []string{"us-east-2:ami-4", "us-east-2:snap-4"})
}
