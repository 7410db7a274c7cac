//go:build linux

package loopcloud_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strconv"
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
	"github.com/packer-chroot/packer-plugin-chroot/loopcloud/fault"
	"github.com/packer-chroot/packer-plugin-chroot/loopcloud/state"
	"github.com/packer-chroot/packer-plugin-chroot/sdkhttp"
)

func TestControlOfHolds(t *testing.T) {
	s := newServer(t, loopcloud.Options{Faults: []fault.Rule{{Dialect: "imds", Hold: fault.Before}}})
	answers := make(chan int, 1)
	go func() { answers <- ask(s, "GET", "/latest/meta-data/instance-id", "").Code }()
	var held []fault.Held
	if w := ask(s, "GET", "/_loopcloud/held?wait=1m", ""); json.Unmarshal(w.Body.Bytes(), &held) != nil || len(held) != 1 || held[0].Action != "meta-data/instance-id" {
		t.Fatalf("held are %s", w.Body)
	}
	if w := ask(s, "DELETE", fmt.Sprintf("/_loopcloud/held/%d", held[0].N), ""); w.Code != http.StatusNoContent {
		t.Errorf("releasing was answered with %d", w.Code)
	}
	if got := <-answers; got != http.StatusOK {
		t.Errorf("released, the call was answered with %d", got)
	}
	for target, want := range map[string]int{
		"/_loopcloud/held/1": http.StatusNotFound, "/_loopcloud/held/x": http.StatusNotFound, "/_loopcloud/held": http.StatusNoContent,
	} {
		if w := ask(s, "DELETE", target, ""); w.Code != want {
			t.Errorf("DELETE %s was answered with %d", target, w.Code)
		}
	}
	for target, want := range map[string]int{
		"held": http.StatusOK, "held?wait=1ms": http.StatusOK, "held?wait=soon": http.StatusBadRequest, "held?wait=-1s": http.StatusBadRequest,
	} {
		if w := ask(s, "GET", "/_loopcloud/"+target, ""); w.Code != want {
			t.Errorf("GET %s was answered with %d", target, w.Code)
		}
	}
}

// TestEndReleases checks that a server that stops does not wait for held and hanging calls.
func TestEndReleases(t *testing.T) {
	for name, rule := range map[string]fault.Rule{"held": {Hold: fault.After, Times: 1}, "hanging": {Hang: fault.Before, Times: 1}, "delayed": {Delay: fault.Duration(time.Hour), Times: 1}} {
		t.Run(name, func(t *testing.T) {
			s := newServer(t, loopcloud.Options{Faults: []fault.Rule{rule}})
			l, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			ctx, stop := context.WithCancel(t.Context())
			served, asked := make(chan error, 1), make(chan struct{})
			go func() { served <- s.Serve(ctx, l) }()
			conn, err := net.Dial("tcp", l.Addr().String())
			if err != nil {
				t.Fatal(err)
			}
			fmt.Fprintf(conn, "GET /latest/meta-data/ HTTP/1.1\r\nHost: localhost\r\n\r\n")
			go func() {
				_, _ = io.ReadAll(conn)
				close(asked)
			}()
			for strings.TrimSpace(ask(s, "GET", "/_loopcloud/faults", "").Body.String()) != "[]" { // until the rule applies
				runtime.Gosched()
			}
			stop()
			if err := <-served; err != nil {
				t.Error(err)
			}
			<-asked
			conn.Close()
		})
	}
}

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

// TestFaultRulesInEachAPI checks that a rule for acts applies to all APIs, and for a rule for
// calls each API has its own errors.
func TestFaultRulesInEachAPI(t *testing.T) {
	s := newServer(t, loopcloud.Options{Faults: []fault.Rule{{Action: "CreateVolume", Outcome: "error"}}})
	caller := state.Caller{Account: state.DefaultAccount, Region: "eu-west-2"}
	v, err := s.Cloud().CreateVolume(caller, state.VolumeRequest{Zone: "eu-west-2a", SizeGiB: 1})
	if err != nil {
		t.Fatal(err)
	}
	if all := s.Cloud().Volumes(caller); all[len(all)-1].ID != v.ID || all[len(all)-1].State != state.VolumeError {
		t.Errorf("the volumes are %+v", all)
	}
	for kind, codes := range map[string][3]string{
		"throttled": {"503 RequestLimitExceeded", `503 "Code":"6","Type":"AccessDenied","Details":"Request rate exceeded."`, "503"},

		"throttled-account": {"503 RequestLimitExceeded", `429 "Code":"24"`, "503"},
		"throttled-call":    {"503 RequestLimitExceeded", `429 "Code":"25"`, "503"},

		"unavailable": {"503 Unavailable", "503 ServiceUnavailable", "503"},
		"internal":    {"500 InternalError", "500 2000", "500"},
		"denied":      {"403 UnauthorizedOperation", "403 4", "403"},
	} {
		ask(s, "DELETE", "/_loopcloud/faults", "")
		ask(s, "POST", "/_loopcloud/faults", `{"error":"`+kind+`"}`)
		for i, target := range []string{"/", "/api/v1/ReadVms", "/latest/meta-data/"} {
			w := ask(s, "POST", target, "")
			status, code, _ := strings.Cut(codes[i], " ")
			if strconv.Itoa(w.Code) != status || !strings.Contains(w.Body.String(), code) {
				t.Errorf("%s at %s is %d %s", kind, target, w.Code, w.Body)
			}
		}
	}
}
