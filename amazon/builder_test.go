package amazon

import (
	"net/http"
	"net/http/httptest"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	packersdk "github.com/hashicorp/packer-plugin-sdk/packer"

	"github.com/packer-chroot/packer-plugin-chroot/bake"
	"github.com/packer-chroot/packer-plugin-chroot/builder/buildertest"
)

// runWith runs a build that creates nothing, and returns the cloud that it was given.
func runWith(t *testing.T, give map[string]any) (*Cloud, packersdk.Artifact, error) {
	t.Helper()
	t.Setenv("AWS_EC2_METADATA_DISABLED", "true")
	made := bake.Product{Region: "eu-west-1", Image: "ami-00000002", Snapshots: []bake.SnapshotID{"snap-2"}}
	cloud, artifact, err := buildertest.Run(t, Plugin, made, give)
	given, _ := cloud.(*Cloud)
	return given, artifact, err
}

func TestOptionsReachTheCloud(t *testing.T) {
	t.Setenv("PACKER_CHROOT_PATIENCE", "5m")
	cloud, artifact, err := runWith(t, with(t, map[string]any{
		"ami_name": "web", "region": "eu-west-1", "ami_virtualization_type": "hvm", "root_device_name": "xvda",
		"custom_endpoint_ec2": "http://127.0.0.1:1", "insecure_skip_tls_verify": true,
		"ami_block_device_mappings": []any{buildertest.Device(nil)},
	}))
	if err != nil {
		t.Fatal(err)
	}
	want := AccessConfig{
		AccessKey: "YOUR KEY HERE", SecretKey: "YOUR SECRET KEY HERE", Region: "eu-west-1",
		CustomEndpointEC2: "http://127.0.0.1:1", InsecureSkipTLSVerify: true,
	}
	if got := cloud.client.access; !reflect.DeepEqual(got, want) {
		t.Errorf("AWS is reached by %+v, want %+v", got, want)
	}
	if got := cloud.client.waitLimit; got != 5*time.Minute {
		t.Errorf("the wait limit is %v", got)
	}
	o := cloud.config
	if o.AMIName != "web" || o.SourceAMI != "ami-e81d5881" || o.AMIVirtualizationType != "hvm" || o.RootDeviceName != "xvda" || o.FromScratch || cloud.log == nil || len(o.AMIBlockDeviceMappings) != 1 {
		t.Errorf("the cloud is told %+v", o)
	}
	if id := artifact.Id(); id != "eu-west-1:ami-00000002" {
		t.Errorf("the artifact is %s", id)
	}
	if artifact.BuilderId() != "mitchellh.amazon.chroot" {
		t.Errorf("the artifact's builder is %s", artifact.BuilderId())
	}
}

func TestKeysAndRegionOfTheEnvironment(t *testing.T) {
	t.Setenv("AWS_ACCESS_KEY_ID", "AKIAENVIRONMENT")
	t.Setenv("AWS_SECRET_ACCESS_KEY", "secret")
	t.Setenv("AWS_REGION", "us-east-2")
	cloud, _, err := runWith(t, with(t, map[string]any{"access_key": nil, "secret_key": nil}))
	if err != nil {
		t.Fatal(err)
	}
	if cloud.client.Region() != "us-east-2" || cloud.client.keys.known().AccessKeyID != "AKIAENVIRONMENT" {
		t.Errorf("AWS is reached in %s with %s", cloud.client.Region(), cloud.client.keys.known().AccessKeyID)
	}
}

func TestNoArtifactWithoutARegion(t *testing.T) {
	for _, variable := range []string{"AWS_REGION", "AWS_DEFAULT_REGION", "AWS_PROFILE"} {
		t.Setenv(variable, "")
	}
	t.Setenv("AWS_CONFIG_FILE", "/dev/null")
	_, artifact, err := runWith(t, with(t, nil))
	if artifact != nil || err == nil || !strings.Contains(err.Error(), "region") {
		t.Errorf("got %v, %v", artifact, err)
	}
}

// TestArtifactDestroys removes the image and then its snapshot.
func TestArtifactDestroys(t *testing.T) {
	var mu sync.Mutex
	var actions []string
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		action := r.FormValue("Action")
		actions = append(actions, strings.TrimSpace(action+" "+r.FormValue("ImageId")+r.FormValue("SnapshotId")))
		body := "<return>true</return>"
		if action == "DescribeImages" {
			body = "<imagesSet/>"
		}
		_, _ = w.Write([]byte(`<` + action + `Response xmlns="http://ec2.amazonaws.com/doc/2016-11-15/">` + body + `</` + action + `Response>`))
	}))
	defer server.Close()
	_, artifact, err := runWith(t, with(t, map[string]any{"region": "eu-west-1", "custom_endpoint_ec2": server.URL}))
	if err != nil {
		t.Fatal(err)
	}
	if err := artifact.Destroy(); err != nil {
		t.Fatal(err)
	}
	want := []string{"DeregisterImage ami-00000002", "DescribeImages", "DescribeImages", "DeleteSnapshot snap-2"}
	if !slices.Equal(actions, want) {
		t.Errorf("called %q, want %q", actions, want)
	}
}
