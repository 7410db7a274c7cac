//go:build linux

package loopcloud_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/packer-chroot/packer-plugin-chroot/loopcloud"
	"github.com/packer-chroot/packer-plugin-chroot/loopcloud/fault"
	"github.com/packer-chroot/packer-plugin-chroot/loopcloud/state"
	"github.com/packer-chroot/packer-plugin-chroot/testdir"
)

func TestControlOfFaults(t *testing.T) {
	s := newServer(t, loopcloud.Options{})
	const faults = "/_loopcloud/faults"
	if w := ask(s, "POST", faults, `{"action":"ReadVms","status":503,"code":"9029","message":"told to"}`); w.Code != http.StatusNoContent {
		t.Fatalf("the rule was answered with %d %s", w.Code, w.Body)
	}
	if w := ask(s, "POST", faults, `{"action":"ReadVms"}`); w.Code != http.StatusBadRequest {
		t.Errorf("a rule without an effect was answered with %d", w.Code)
	}
	if w := ask(s, "GET", faults, ""); !strings.Contains(w.Body.String(), `"code": "9029"`) {
		t.Errorf("the rules are %s", w.Body)
	}
	if w := ask(s, "POST", "/api/v1/ReadVms", "{}"); w.Code != http.StatusServiceUnavailable || !strings.Contains(w.Body.String(), "told to") {
		t.Errorf("the call was answered with %d %s", w.Code, w.Body)
	}
	ask(s, "DELETE", faults, "")
	if w := ask(s, "GET", faults, ""); strings.TrimSpace(w.Body.String()) != "[]" {
		t.Errorf("deleted, the rules are %s", w.Body)
	}
	ask(s, "DELETE", "/_loopcloud/calls", "")
	if w := ask(s, "GET", "/_loopcloud/calls", ""); strings.TrimSpace(w.Body.String()) != "[]" {
		t.Errorf("deleted, the calls are %s", w.Body)
	}
}

// TestControlOfSettings checks that settings are set at the start and changed later, in one
// region or in all, and are saved.
func TestControlOfSettings(t *testing.T) {
	const settings = "/_loopcloud/settings"
	given, err := loopcloud.ParseSettings([]byte(`{"region":"us-east-1","encrypt_by_default":true}`))
	if err != nil {
		t.Fatal(err)
	}
	dir := testdir.New(t)
	s := newServer(t, loopcloud.Options{Dir: dir, Settings: given})
	in := func(s *loopcloud.Server, region string) state.Settings {
		return s.Cloud().Settings(state.Caller{Account: state.DefaultAccount, Region: region})
	}
	if !in(s, "us-east-1").EncryptByDefault || in(s, "eu-west-2").EncryptByDefault {
		t.Errorf("set were %+v and %+v", in(s, "us-east-1"), in(s, "eu-west-2"))
	}
	if w := ask(s, "POST", settings, `[{"public_images":5},{"region":"us-east-1","default_key":"alias/own"}]`); w.Code != http.StatusNoContent {
		t.Fatalf("the settings were answered with %d %s", w.Code, w.Body)
	}
	if now := in(s, "us-east-1"); !now.EncryptByDefault || now.DefaultKey != "alias/own" || in(s, "eu-west-2").PublicImages != 5 {
		t.Errorf("set are %+v and %+v", now, in(s, "eu-west-2"))
	}
	for text, why := range map[string]string{
		`{"encrypt":true}`: "encrypt", `{"region":"moon-1"}`: "moon-1", `{"account":"1"}`: `"1"`, `{"block_public_snapshots":"perhaps"}`: "perhaps",
		`{"default_key":"no key"}`: "no key", `{"allowed_providers":["x"]}`: "x", `[{"public_images":-1}]`: "-1", `[1]`: "not a list of settings",
	} {
		if w := ask(s, "POST", settings, text); w.Code != http.StatusBadRequest || !strings.Contains(w.Body.String(), why) {
			t.Errorf("%s was answered with %d %s", text, w.Code, w.Body)
		}
	}
	var list []loopcloud.Setting
	if err := json.Unmarshal(ask(s, "GET", settings, "").Body.Bytes(), &list); err != nil || len(list) != len(s.Cloud().Regions()) {
		t.Errorf("listed are %+v, %v", list, err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if again := newServer(t, loopcloud.Options{Dir: dir}); in(again, "us-east-1").DefaultKey != "alias/own" {
		t.Error("the settings were not kept")
	}
}

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
