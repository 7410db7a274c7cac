//go:build linux

package loopcloud_test

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/credentials"
	awsec2 "github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"
	"github.com/aws/smithy-go"

	"github.com/packer-chroot/packer-plugin-chroot/loopcloud"
	"github.com/packer-chroot/packer-plugin-chroot/loopcloud/state"
	"github.com/packer-chroot/packer-plugin-chroot/sdkhttp"
)

// TestClocks checks that one clock is for resources and the other for the wire.
func TestClocks(t *testing.T) {
	s := newServer(t, loopcloud.Options{Keys: []state.Key{key}, Timing: state.Timing{VolumeCreate: time.Hour}})
	server := httptest.NewServer(s)
	t.Cleanup(server.Close)
	client := awsec2.New(awsec2.Options{
		Region: "eu-west-2", BaseEndpoint: aws.String(server.URL), Retryer: aws.NopRetryer{}, HTTPClient: sdkhttp.Safe(awshttp.NewBuildableClient()),
		Credentials: credentials.NewStaticCredentialsProvider(key.ID, key.Secret, ""),
	})
	if _, err := client.CreateVolume(t.Context(), &awsec2.CreateVolumeInput{AvailabilityZone: aws.String("eu-west-2a"), Size: aws.Int32(1)}); err != nil {
		t.Fatal(err)
	}
	tell := func() types.VolumeState {
		t.Helper()
		out, err := client.DescribeVolumes(t.Context(), &awsec2.DescribeVolumesInput{Filters: []types.Filter{{Name: aws.String("size"), Values: []string{"1"}}}})
		if err != nil {
			t.Fatal(err)
		}
		return out.Volumes[0].State
	}
	for _, step := range []struct {
		change string
		want   types.VolumeState
	}{{"advance=1s", "creating"}, {"advance=1h", "available"}, {"advance=-30m", "creating"}} {
		if w := ask(s, "POST", "/_loopcloud/clock?"+step.change, ""); w.Code != http.StatusOK {
			t.Fatalf("%s was answered with %d %s", step.change, w.Code, w.Body)
		}
		if got := tell(); got != step.want {
			t.Errorf("after %s the volume is %s", step.change, got)
		}
	}
	ask(s, "POST", "/_loopcloud/clock?skew=20m", "")
	_, err := client.DescribeRegions(t.Context(), &awsec2.DescribeRegionsInput{})
	var refusal smithy.APIError
	if !errors.As(err, &refusal) || refusal.ErrorCode() != "RequestExpired" {
		t.Errorf("skewed, the error is %v", err)
	}
	w := ask(s, "GET", "/latest/meta-data/", "")
	if at, err := http.ParseTime(w.Header().Get("Date")); err != nil || time.Until(at) < 15*time.Minute {
		t.Errorf("skewed, the answer's date is %s (%v)", at, err)
	}
	ask(s, "DELETE", "/_loopcloud/clock", "")
	if w := ask(s, "GET", "/_loopcloud/clock", ""); !strings.Contains(w.Body.String(), `"skew": "0s"`) || !strings.Contains(w.Body.String(), `"advanced": "0s"`) {
		t.Errorf("set back, the clocks are %s", w.Body)
	}
	for _, bad := range []string{"", "?advance=soon", "?stop=1s", "?skew="} {
		if w := ask(s, "POST", "/_loopcloud/clock"+bad, ""); w.Code != http.StatusBadRequest {
			t.Errorf("%q was answered with %d", bad, w.Code)
		}
	}
}
