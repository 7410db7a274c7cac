package osc

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"path"
	"slices"
	"strings"
	"sync"
	"testing"

	packersdk "github.com/hashicorp/packer-plugin-sdk/packer"

	"github.com/packer-chroot/packer-plugin-chroot/bake"
	"github.com/packer-chroot/packer-plugin-chroot/builder/buildertest"
)

// accountServer is an API that knows the account of the keys and accepts every request. It
// records the calls.
func accountServer(t *testing.T) (url string, calls func() []string) {
	t.Helper()
	var mu sync.Mutex
	var all []string
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var body struct{ ImageId, SnapshotId string } //nolint:revive // the API's spelling
		_ = json.NewDecoder(r.Body).Decode(&body)
		mu.Lock()
		defer mu.Unlock()
		all = append(all, strings.TrimSpace(path.Base(r.URL.Path)+" "+body.ImageId+body.SnapshotId))
		w.Header().Set("Content-Type", "application/json")
		_, _ = w.Write([]byte(`{"Accounts": [{"AccountId": "123456789012"}], "ResponseContext": {"RequestId": "r"}}`))
	}))
	t.Cleanup(server.Close)
	return server.URL, func() []string {
		mu.Lock()
		defer mu.Unlock()
		return slices.Clone(all)
	}
}

// runWith runs a build that creates nothing, and returns the cloud that it was given.
func runWith(t *testing.T, give map[string]any) (*Cloud, packersdk.Artifact, error) {
	t.Helper()
	made := bake.Product{Region: "eu-west-2", Image: "ami-00000002", Snapshots: []bake.SnapshotID{"snap-00000002"}}
	cloud, artifact, err := buildertest.Run(t, Plugin, made, give)
	given, _ := cloud.(*Cloud)
	return given, artifact, err
}

func TestOptionsReachTheCloud(t *testing.T) {
	url, _ := accountServer(t)
	cloud, artifact, err := runWith(t, with(t, map[string]any{
		"omi_name": "web", "region": "eu-west-2", "omi_virtualization_type": "hvm", "root_device_name": "xvda",
		"custom_endpoint_oapi": url, "insecure_skip_tls_verify": true,
		"omi_block_device_mappings": []any{buildertest.Device(nil)},
	}))
	if err != nil {
		t.Fatal(err)
	}
	got := cloud.client.access
	if got.AccessKey != "YOUR KEY HERE" || got.SecretKey != "YOUR SECRET KEY HERE" || got.Region != "eu-west-2" || !strings.HasPrefix(got.Endpoint, url) || !got.InsecureSkipTLSVerify {
		t.Errorf("the API is reached by %+v", got)
	}
	o := cloud.config
	if o.OMIName != "web" || o.SourceOMI != "ami-3e158364" || o.OMIVirtualizationType != "hvm" || o.RootDeviceName != "xvda" || o.FromScratch || cloud.log == nil || len(o.OMIBlockDeviceMappings) != 1 {
		t.Errorf("the cloud is told %+v", o)
	}
	if id := artifact.Id(); id != "eu-west-2:ami-00000002" {
		t.Errorf("the artifact is %s", id)
	}
	if artifact.BuilderId() != "oapi.outscale.chroot" {
		t.Errorf("the artifact's builder is %s", artifact.BuilderId())
	}
}

func TestKeysRegionAndEndpointOfTheEnvironment(t *testing.T) {
	url, _ := accountServer(t)
	t.Setenv("OSC_ACCESS_KEY", "ENVIRONMENT")
	t.Setenv("OSC_SECRET_KEY", "secret")
	t.Setenv("OSC_REGION", "us-east-2")
	t.Setenv("OSC_ENDPOINT_API", url+"/api/v1")
	cloud, _, err := runWith(t, with(t, map[string]any{"access_key": nil, "secret_key": nil}))
	if err != nil {
		t.Fatal(err)
	}
	if a := cloud.client.access; a.AccessKey != "ENVIRONMENT" || a.Region != "us-east-2" || a.Endpoint != url+"/api/v1" {
		t.Errorf("the API is reached by %+v", a)
	}
}

func TestNoArtifactWithoutKeys(t *testing.T) {
	t.Setenv("OSC_ACCESS_KEY", "")
	t.Setenv("OSC_SECRET_KEY", "")
	_, artifact, err := runWith(t, with(t, map[string]any{"access_key": nil, "secret_key": nil}))
	if artifact != nil || err == nil || !strings.Contains(err.Error(), "access_key") {
		t.Errorf("got %v, %v", artifact, err)
	}
}

// TestArtifactDestroys removes the image and then its snapshot.
func TestArtifactDestroys(t *testing.T) {
	url, calls := accountServer(t)
	_, artifact, err := runWith(t, with(t, map[string]any{"region": "eu-west-2", "custom_endpoint_oapi": url}))
	if err != nil {
		t.Fatal(err)
	}
	if err := artifact.Destroy(); err != nil {
		t.Fatal(err)
	}
	want := []string{"ReadAccounts", "DeleteImage ami-00000002", "ReadImages", "ReadImages", "DeleteSnapshot snap-00000002"}
	if got := calls(); !slices.Equal(got, want) {
		t.Errorf("called %q, want %q", got, want)
	}
}
