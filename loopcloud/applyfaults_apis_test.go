//go:build linux

package loopcloud_test

import (
	"context"
	"fmt"
	"io"
	"net"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/packer-chroot/packer-plugin-chroot/loopcloud"
	"github.com/packer-chroot/packer-plugin-chroot/loopcloud/fault"
	"github.com/packer-chroot/packer-plugin-chroot/loopcloud/state"
)

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
