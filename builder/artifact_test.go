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

// artifactOf answers the artifact of a build with the result.
func artifactOf(t *testing.T, result bake.Result, destroy func(context.Context, builder.Made) error) packersdk.Artifact {
	t.Helper()
	j := job(t, nil)
	j.Connect = func(context.Context, func(string, ...any)) (builder.Session, error) {
		return builder.Session{Destroy: destroy}, nil
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

var result = bake.Result{Image: "ami-2", Snapshot: "snap-2", Region: "eu-west-2", Source: facts.Source}

func TestArtifactNamesItsImage(t *testing.T) {
	a := artifactOf(t, result, nil)
	for what, got := range map[string][2]string{
		"id":         {a.Id(), "eu-west-2:ami-2"},
		"builder id": {a.BuilderId(), "test.chroot"},
		"text":       {a.String(), "TMIs were created:\neu-west-2: ami-2\n"},
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

func TestArtifactTellsTheRegistry(t *testing.T) {
	scratch := result
	scratch.Source = nil
	for source, r := range map[string]bake.Result{"ami-1": result, "": scratch} {
		images, ok := artifactOf(t, r, nil).State(registryimage.ArtifactStateURI).([]*registryimage.Image)
		if !ok || len(images) != 1 {
			t.Fatalf("images %v", images)
		}
		want := registryimage.Image{ImageID: "ami-2", ProviderName: "test", ProviderRegion: "eu-west-2", SourceImageID: source}
		if got := images[0]; got.ImageID != want.ImageID || got.ProviderName != want.ProviderName || got.ProviderRegion != want.ProviderRegion || got.SourceImageID != want.SourceImageID {
			t.Errorf("got %+v, want %+v", got, want)
		}
		if err := images[0].Validate(); err != nil {
			t.Errorf("the registry refuses it: %v", err)
		}
	}
}

func TestDestroy(t *testing.T) {
	var destroyed []builder.Made
	a := artifactOf(t, result, func(ctx context.Context, made builder.Made) error {
		if _, bounded := ctx.Deadline(); !bounded {
			t.Error("destroying has no deadline")
		}
		destroyed = append(destroyed, made)
		return nil
	})
	if err := a.Destroy(); err != nil {
		t.Fatal(err)
	}
	equal(t, "destroyed", destroyed, []builder.Made{{Region: "eu-west-2", Image: "ami-2", Snapshot: "snap-2"}})
}

func TestDestroySaysWhatWouldNotGo(t *testing.T) {
	a := artifactOf(t, result, func(context.Context, builder.Made) error { return errors.New("the cloud says no") })
	err := a.Destroy()
	if err == nil {
		t.Fatal("no error")
	}
	mustContain(t, err.Error(), "ami-2", "eu-west-2", "the cloud says no")
}
