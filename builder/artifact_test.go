package builder_test

import (
	"context"
	"testing"

	registryimage "github.com/hashicorp/packer-plugin-sdk/packer/registry/image"

	packersdk "github.com/hashicorp/packer-plugin-sdk/packer"
	"github.com/packer-chroot/packer-plugin-chroot/bake"
	"github.com/packer-chroot/packer-plugin-chroot/builder"
)

// artifactOf answers the artifact of a build on the cloud.
func artifactOf(t *testing.T, c *cloud, result bake.Result) packersdk.Artifact {
	t.Helper()
	j := job(t, nil)
	j.Connect = func(context.Context, func(string, ...any)) (bake.Cloud, error) { return c, nil }
	j.Host = builder.Host{GOOS: "linux", IsRoot: func() bool { return true }, Bake: func(context.Context, bake.Cloud, bake.Machine, bake.Plan, bake.Reporter) (bake.Result, error) {
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
	a := artifactOf(t, &cloud{}, result)
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
		images, ok := artifactOf(t, &cloud{}, r).State(registryimage.ArtifactStateURI).([]*registryimage.Image)
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

func TestDestroyRemovesTheImageBeforeItsSnapshot(t *testing.T) {
	c := &cloud{}
	if err := artifactOf(t, c, result).Destroy(); err != nil {
		t.Fatal(err)
	}
	equal(t, "calls", c.calls, []string{"deregister ami-2", "delete snap-2"})
}

func TestDestroySaysWhatWouldNotGo(t *testing.T) {
	for fail, calls := range map[string]int{"deregister ami-2": 1, "delete snap-2": 2} {
		c := &cloud{fail: fail}
		err := artifactOf(t, c, result).Destroy()
		if err == nil {
			t.Fatalf("no error when %q fails", fail)
		}
		mustContain(t, err.Error(), "ami-2", "eu-west-2", "the cloud says no")
		if len(c.calls) != calls {
			t.Errorf("calls %q", c.calls)
		}
	}
}
