package amazon

import (
	"context"
	"errors"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"sync/atomic"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/ec2"

	"github.com/packer-chroot/packer-plugin-chroot/bake/cloudtest"
	"github.com/packer-chroot/packer-plugin-chroot/retry"
)

const document = `{"instanceId":"i-0123","availabilityZone":"eu-west-1b","region":"eu-west-1"}`

func TestDialRefuses(t *testing.T) {
	tests := []struct {
		name   string
		access AccessConfig
		env    map[string]string
		want   []string
	}{
		{"no region", AccessConfig{AccessKey: "AKIA", SecretKey: "s"}, nil, []string{"set region", "no metadata service"}},
		{"no keys", AccessConfig{Region: "eu-west-1"}, nil, []string{"no AWS credentials", "access_key", "AWS_ACCESS_KEY_ID"}},
		{"endpoint of another kind", access("ftp://ec2.example.com"), nil, []string{"custom_endpoint_ec2", "ftp://"}},
		{"endpoint without host", access("https://"), nil, []string{"custom_endpoint_ec2"}},
		{"endpoint that is no URL", access("https://ec2 example.com:x"), nil, []string{"custom_endpoint_ec2"}},
		{"unknown profile", AccessConfig{Region: "eu-west-1"}, map[string]string{"AWS_PROFILE": "nobody"}, []string{"nobody"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			alone(t)
			for name, value := range tt.env {
				t.Setenv(name, value)
			}
			_, err := Dial(context.Background(), tt.access, 0)
			says(t, err, tt.want...)
		})
	}
}

func TestRegionIsFound(t *testing.T) {
	tests := []struct {
		name, option, env, defaultEnv, document string
		want                                    string
	}{
		{"option first", "ap-south-1", "eu-north-1", "us-east-2", document, "ap-south-1"},
		{"then AWS_REGION", "", "eu-north-1", "us-east-2", document, "eu-north-1"},
		{"then AWS_DEFAULT_REGION", "", "", "us-east-2", document, "us-east-2"},
		{"then the instance's", "", "", "", document, "eu-west-1"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			serve(t, &fake{metadata: map[string]string{"dynamic/instance-identity/document": tt.document}})
			t.Setenv("AWS_REGION", tt.env)
			t.Setenv("AWS_DEFAULT_REGION", tt.defaultEnv)
			c := dial(t, AccessConfig{AccessKey: "AKIA", SecretKey: "s", Region: tt.option})
			if c.Region() != tt.want {
				t.Errorf("region %q, want %q", c.Region(), tt.want)
			}
		})
	}
}

func TestMetadataWithoutRegion(t *testing.T) {
	serve(t, &fake{metadata: map[string]string{"meta-data/instance-id": "i-0123"}})
	_, err := Dial(context.Background(), AccessConfig{AccessKey: "AKIA", SecretKey: "s"}, 0)
	says(t, err, "set region")
}

func TestKeysFromTheEnvironment(t *testing.T) {
	s := &fake{actions: map[string]action{"DescribeImages": refuseWith(http.StatusUnauthorized, "AuthFailure")}}
	server := serve(t, s)
	t.Setenv("AWS_ACCESS_KEY_ID", "AKIAENV")
	t.Setenv("AWS_SECRET_ACCESS_KEY", "not-to-be-printed")
	t.Setenv("AWS_ENDPOINT_URL", server.URL)
	cloud := NewCloud(dial(t, AccessConfig{Region: "eu-west-1"}), &Config{}, nil)
	says(t, look(context.Background(), cloud), "AKIAENV", "EnvConfigCredentials", "access_key and secret_key")
}

// The custom endpoint is for EC2 in one region. The metadata service and other regions keep
// their endpoints.
func TestCustomEndpointServesEC2OfItsRegionAlone(t *testing.T) {
	elsewhere := &fake{t: t, actions: map[string]action{"DescribeImages": answer("DescribeImages", "<imagesSet/>")}}
	metadata := &fake{metadata: map[string]string{"dynamic/instance-identity/document": document}}
	serve(t, metadata)
	other := httptest.NewServer(elsewhere)
	t.Cleanup(other.Close)
	t.Setenv("AWS_ENDPOINT_URL", other.URL)

	custom := &fake{t: t, actions: map[string]action{"DescribeInstances": answer("DescribeInstances",
		"<reservationSet><item><instancesSet><item><instanceId>i-0123</instanceId></item></instancesSet></item></reservationSet>")}}
	server := httptest.NewServer(custom)
	t.Cleanup(server.Close)

	client := dial(t, access(server.URL))
	host, err := NewCloud(client, &Config{}, nil).Host(context.Background())
	if err != nil || host.ID != "i-0123" {
		t.Fatalf("host %+v, %v", host, err)
	}
	if err := look(context.Background(), NewCloud(client, &Config{}, nil).In("us-east-1")); err != nil {
		t.Fatal(err)
	}
	if len(elsewhere.made("DescribeImages")) != 1 || len(custom.made("DescribeInstances")) != 1 {
		t.Errorf("custom endpoint was asked %v, the other %v", custom.calls, elsewhere.calls)
	}
	if len(metadata.calls) != 0 {
		t.Errorf("the metadata service was asked for EC2: %v", metadata.calls)
	}
}

func TestRefusals(t *testing.T) {
	tests := []struct {
		status int
		code   string
		want   []string
	}{
		{http.StatusUnauthorized, "AuthFailure", []string{"AuthFailure", "AKIATEST", "check access_key and secret_key"}},
		{http.StatusForbidden, "InvalidClientTokenId", []string{"AKIATEST", "check access_key and secret_key"}},
		{http.StatusForbidden, "SignatureDoesNotMatch", []string{"AKIATEST", "check access_key and secret_key"}},
		{http.StatusBadRequest, "RequestExpired", []string{"AKIATEST", "clock"}},
		{http.StatusForbidden, "UnauthorizedOperation", []string{"AKIATEST", "do not allow"}},
		{http.StatusUnauthorized + 2, "OptInRequired", []string{"eu-west-1", "not enabled"}},
	}
	for _, tt := range tests {
		t.Run(tt.code, func(t *testing.T) {
			s := &fake{actions: map[string]action{"DescribeImages": refuseWith(tt.status, tt.code)}}
			err := look(context.Background(), faked(t, s, Config{}))
			says(t, err, tt.want...)
			if n := len(s.made("DescribeImages")); n != 1 {
				t.Errorf("asked %d times what cannot get better", n)
			}
		})
	}
}

func TestUnreachableEndpoint(t *testing.T) {
	tests := []struct {
		name   string
		access func(url string) AccessConfig
		want   string
	}{
		{"custom", access, "custom_endpoint_ec2"},
		{"of the environment", func(url string) AccessConfig {
			t.Setenv("AWS_ENDPOINT_URL", url)
			return access("")
		}, "AWS_ENDPOINT_URL"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			alone(t)
			listener, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			url := "http://" + listener.Addr().String()
			listener.Close()
			err = look(context.Background(), NewCloud(dial(t, tt.access(url)), &Config{}, nil))
			says(t, err, url, tt.want)
		})
	}
}

func TestCertificateOfEC2(t *testing.T) {
	alone(t)
	s := &fake{t: t, actions: map[string]action{"DescribeImages": answer("DescribeImages", "<imagesSet/>")}}
	var handshakes atomic.Int32
	server := httptest.NewUnstartedServer(s)
	server.Config.ErrorLog = log.New(io.Discard, "", 0)
	server.Config.ConnState = func(_ net.Conn, state http.ConnState) {
		if state == http.StateNew {
			handshakes.Add(1)
		}
	}
	server.StartTLS()
	t.Cleanup(server.Close)

	distrusting := NewCloud(dial(t, access(server.URL)), &Config{}, nil)
	says(t, look(context.Background(), distrusting), "certificate", server.URL)
	if n := handshakes.Load(); n != 1 {
		t.Errorf("%d handshakes over a certificate that will not become trusted", n)
	}
	a := access(server.URL)
	a.InsecureSkipTLSVerify = true
	if err := look(context.Background(), NewCloud(dial(t, a), &Config{}, nil)); err != nil {
		t.Error(err)
	}
}

func TestTransientFaultsAreTriedAgain(t *testing.T) {
	found := answer("DescribeImages", "<imagesSet/>")
	for name, fault := range map[string]action{
		"throttled":    refuseWith(http.StatusServiceUnavailable, "RequestLimitExceeded"),
		"server fault": refuseWith(http.StatusInternalServerError, "InternalError"),
		"no answer":    breakOff,
		"half answer":  cutOff,
	} {
		t.Run(name, func(t *testing.T) {
			s := &fake{actions: map[string]action{"DescribeImages": inTurn(fault, fault, found)}}
			if err := look(context.Background(), faked(t, s, Config{})); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestEndlessThrottling(t *testing.T) {
	s := &fake{actions: map[string]action{"DescribeImages": refuseWith(http.StatusServiceUnavailable, "RequestLimitExceeded")}}
	cloud := faked(t, s, Config{})
	says(t, look(context.Background(), cloud), "RequestLimitExceeded", "AWS throttles", "throttled since 07:00:00 UTC, for 10m0s")
	if passed := clockOf(cloud).Passed(); passed != retry.ThrottledFor {
		t.Errorf("gave up after %v, want %v", passed, retry.ThrottledFor)
	}
}

// clockOf returns the clock on which a test's client pauses.
func clockOf(cloud *Cloud) *cloudtest.Clock { return cloud.client.policy.Clock.(*cloudtest.Clock) }

func TestCancelEndsTheAttempts(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	s := &fake{actions: map[string]action{"DescribeImages": func(form url.Values) (int, string) {
		cancel()
		return refuseWith(http.StatusServiceUnavailable, "RequestLimitExceeded")(form)
	}}}
	cloud := faked(t, s, Config{})
	cloud.client.policy.Clock, cloud.client.policy.First = nil, time.Hour
	if err := look(ctx, cloud); !errors.Is(err, context.Canceled) {
		t.Errorf("error %v, want %v", err, context.Canceled)
	}
}

func TestEndpointWithoutScheme(t *testing.T) {
	alone(t)
	c := dial(t, access("ec2.example.com"))
	var own, other ec2.Options
	c.settings(c.Region())(&own)
	if got := own.BaseEndpoint; got == nil || *got != "https://ec2.example.com" {
		t.Errorf("base endpoint %v", got)
	}
	c.settings("us-east-1")(&other)
	if got := other.BaseEndpoint; got != nil {
		t.Errorf("another region's EC2 is at %s", *got)
	}
}

// TestWaitLimit checks that the user's limit ends the wait for a service that never responds:
// EC2, and STS, for which the SDK would wait without end.
func TestWaitLimit(t *testing.T) {
	alone(t)
	silent := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body) // the end of the connection is seen only then
		<-r.Context().Done()
	}))
	defer silent.Close()
	a := access(silent.URL)
	a.MaxRetries = 1
	late := func(err error) {
		t.Helper()
		says(t, err, silent.URL)
		var limit net.Error
		if !errors.As(err, &limit) || !limit.Timeout() {
			t.Errorf("the error is not one of time: %v", err)
		}
	}
	late(look(t.Context(), NewCloud(dialWithin(t, a, time.Second), &Config{}, nil)))
	t.Setenv("AWS_ENDPOINT_URL_STS", silent.URL)
	a.AssumeRole = AssumeRoleConfig{RoleARN: "arn:aws:iam::123456789012:role/builder"}
	_, err := Dial(t.Context(), a, time.Second)
	late(err)
}
