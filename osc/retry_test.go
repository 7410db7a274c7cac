package osc

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/packer-chroot/packer-plugin-chroot/bake"
)

var (
	busy     = refused(503, "AccessDenied", "6", "Request rate exceeded")
	perCall  = refused(429, "AccessDenied", "25", "Request rate exceeded")
	gateway  = reply{502, "<html>bad gateway"}
	sorry    = refused(500, "InternalError", "2000", "sorry")
	lost     = reply{}
	noVolume = refused(400, "InvalidResource", "5064", "no such volume")
	inTheWay = refused(409, "ResourceConflict", "9999", "in the way")
	done     = reply{200, `{"ResponseContext":{"RequestId":"x"}}`}
	found    = reply{200, `{"Volumes":[{"VolumeId":"vol-12345678","State":"available","Size":1}]}`}
)

// TestRetry: what is answered to a reading call, how often it is made, and what
// comes of it.
func TestRetry(t *testing.T) {
	tests := map[string]struct {
		answers []reply
		tries   int
		err     string
	}{
		"at once":             {[]reply{found}, 1, ""},
		"throttled":           {[]reply{busy, perCall, busy, found}, 4, ""},
		"connection lost":     {[]reply{lost, lost, found}, 3, ""},
		"gateway":             {[]reply{gateway, found}, 2, ""},
		"refused":             {[]reply{refused(400, "InvalidParameter", "3001", "no filter Colour")}, 1, "ReadVolumes: HTTP 400, InvalidParameter (code 3001): no filter Colour [request 0475ca1e]"},
		"a fault of theirs":   {[]reply{sorry, sorry, found}, 3, ""},
		"broken for good":     {[]reply{sorry}, 6, "given up after 6 tries: HTTP 500"},
		"broken now and then": {[]reply{sorry, busy, sorry, lost, sorry, found}, 6, ""},
		"not JSON":            {[]reply{{200, "<html>"}}, 1, "ReadVolumes"},
		"throttled for good":  {[]reply{busy}, 10, "given up after 10 tries: HTTP 503"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			s := newFake(t, map[string][]reply{"ReadVolumes": test.answers})
			v, err := s.cloud(Options{}).Volume(t.Context(), "vol-12345678")
			switch {
			case test.err == "" && (err != nil || v.State != bake.VolumeAvailable):
				t.Errorf("%+v, %v", v, err)
			case test.err != "" && (err == nil || !strings.Contains(err.Error(), test.err)):
				t.Errorf("the error is %v, not about %q", err, test.err)
			}
			if n := s.count("ReadVolumes"); n != test.tries {
				t.Errorf("%d tries, want %d", n, test.tries)
			}
		})
	}
}

// TestFaultsOfTheirs: a call that the API failed at may have been made, and is made
// again so that it is made once.
func TestFaultsOfTheirs(t *testing.T) {
	volume := reply{200, `{"Volume":{"VolumeId":"vol-12345678"}}`}
	snapshot := reply{200, `{"Snapshot":{"SnapshotId":"snap-12345678"}}`}
	image := `{"ImageId":"ami-12345678","ImageName":"made","AccountId":"` + me + `","BlockDeviceMappings":[{"Bsu":{"SnapshotId":"snap-12345678"}}]}`
	s := newFake(t, map[string][]reply{
		"CreateVolume": {sorry, volume}, "CreateTags": {sorry, done}, "CreateSnapshot": {sorry, snapshot},
		"CreateImage": {sorry, {200, `{"Image":` + image + `}`}}, "ReadImages": {sorry, {200, `{"Images":[` + image + `]}`}},
	})
	c := s.cloud(Options{})
	if id, err := c.CreateVolume(t.Context(), bake.VolumeSpec{Build: "b", SizeGiB: 1}); err != nil || id != "vol-12345678" {
		t.Errorf("volume %q, %v", id, err)
	}
	if id, err := c.CreateSnapshot(t.Context(), bake.SnapshotSpec{Build: "b", Volume: "vol-12345678"}); err != nil || id != "snap-12345678" {
		t.Errorf("snapshot %q, %v", id, err)
	}
	if id, err := c.Register(t.Context(), bake.ImageSpec{Build: "b", Name: "made", Snapshot: "snap-12345678"}); err != nil || id != "ami-12345678" {
		t.Errorf("image %q, %v", id, err)
	}
	for _, call := range []string{"CreateVolume", "CreateSnapshot"} {
		if first, second := s.asked(call, 0), s.asked(call, 1); first != second || !strings.Contains(first, "ClientToken") {
			t.Errorf("%s was asked for %s, then for %s", call, first, second)
		}
	}
	if created, looked := s.count("CreateImage"), s.count("ReadImages"); created != 1 || looked != 2 {
		t.Errorf("%d CreateImage, and %d ReadImages to find what it had made", created, looked)
	}
}

// TestFaultsWithinATry are not multiplied by the tries.
func TestFaultsWithinATry(t *testing.T) {
	s := newFake(t, map[string][]reply{"CreateImage": {sorry}, "ReadImages": {sorry}})
	_, err := s.cloud(Options{}).Register(t.Context(), bake.ImageSpec{Build: "b", Name: "made", Snapshot: "snap-12345678"})
	if !errors.Is(err, errGivenUp) || s.count("ReadImages") != 6 {
		t.Errorf("%v after %d ReadImages", err, s.count("ReadImages"))
	}
}

// TestEveryTryIsSigned: a try that comes later carries a later signature.
func TestEveryTryIsSigned(t *testing.T) {
	s := newFake(t, map[string][]reply{"ReadVolumes": {busy, found}})
	c := s.cloud(Options{})
	c.client.retry.sleep = func(ctx context.Context, _ time.Duration) error {
		return sleep(ctx, time.Until(time.Now().Truncate(time.Second).Add(time.Second)))
	}
	if _, err := c.Volume(t.Context(), "vol-12345678"); err != nil {
		t.Fatal(err)
	}
	first, second := s.seen["ReadVolumes"][0].Header, s.seen["ReadVolumes"][1].Header
	if first.Get("X-Amz-Date") == second.Get("X-Amz-Date") || first.Get("Authorization") == second.Get("Authorization") {
		t.Errorf("two tries of %s and %s are signed alike", first.Get("X-Amz-Date"), second.Get("X-Amz-Date"))
	}
}

func TestRetryEndsWithContext(t *testing.T) {
	s := newFake(t, map[string][]reply{"ReadVolumes": {busy}})
	c := s.cloud(Options{})
	ctx, cancel := context.WithCancelCause(t.Context())
	why := errors.New("the user has enough")
	c.client.retry.sleep = func(ctx context.Context, d time.Duration) error {
		cancel(why)
		return sleep(ctx, d)
	}
	if _, err := c.Volume(ctx, "vol-12345678"); !errors.Is(err, why) || s.count("ReadVolumes") != 1 {
		t.Errorf("%v after %d tries", err, s.count("ReadVolumes"))
	}
}

// TestPassing: which errors may be gone at the next try.
func TestPassing(t *testing.T) {
	refusedDial := &transportError{&net.OpError{Op: "dial", Err: errors.New("connection refused")}}
	tests := map[string]struct {
		err             error
		before, reached bool // before anything was reached, and after
	}{
		"dial":                      {refusedDial, false, true},
		"broken connection":         {&transportError{io.ErrUnexpectedEOF}, true, true},
		"time-out":                  {&transportError{context.DeadlineExceeded}, true, true},
		"bad request":               {&refusal{Status: 400}, false, false},
		"conflict":                  {&refusal{Status: 409}, false, false},
		"throttled":                 {&refusal{Status: 429}, true, true},
		"a fault of theirs":         {&refusal{Status: 500}, true, true},
		"not implemented":           {&refusal{Status: 501}, false, false},
		"given up":                  {errors.Join(errGivenUp, &refusal{Status: 429}), false, false},
		"no fault of the transport": {errors.New("something"), false, false},
	}
	for name, test := range tests {
		r := defaultRetry()
		if got := r.passing(test.err); got != test.before {
			t.Errorf("%s at first: %v", name, got)
		}
		r.reached.Store(true)
		if got := r.passing(test.err); got != test.reached {
			t.Errorf("%s later: %v", name, got)
		}
	}
}

// TestWait: the waits double up to a bound, and each is at least half of itself.
func TestWait(t *testing.T) {
	r := defaultRetry()
	for n, full := range map[int]time.Duration{1: r.first, 2: 2 * r.first, 3: 4 * r.first, 9: r.longest, 1000: r.longest} {
		for range 100 {
			if d := r.wait(n); d < full/2 || d > full {
				t.Fatalf("wait %d is %v, not from %v to %v", n, d, full/2, full)
			}
		}
	}
}

// TestConflicts: a refusal because of a state is looked into, not taken for an
// outcome.
func TestConflicts(t *testing.T) {
	const id = "vol-12345678"
	volume := func(state, link string) reply {
		return reply{200, `{"Volumes":[{"VolumeId":"` + id + `","State":"` + state + `","LinkedVolumes":[` + link + `]}]}`}
	}
	link := func(vm, device, state string) string {
		return `{"VolumeId":"` + id + `","VmId":"` + vm + `","DeviceName":"` + device + `","State":"` + state + `"}`
	}
	vm := func(state, mappings string) reply {
		return reply{200, `{"Vms":[{"VmId":"i-12345678","State":"` + state + `","BlockDeviceMappings":[` + mappings + `]}]}`}
	}
	attach := func(c *Cloud) error { return c.Attach(t.Context(), id, "i-12345678", "/dev/xvdf") }
	detach := func(c *Cloud) error { return c.Detach(t.Context(), id, "i-12345678") }
	remove := func(c *Cloud) error { return c.DeleteVolume(t.Context(), id) }
	none := reply{200, `{"Volumes":[]}`}
	tests := map[string]struct {
		act     func(*Cloud) error
		call    string
		answers []reply
		volume  reply
		vm      reply
		tries   int
		err     error // what the error wraps; nil if there is none
	}{
		"linked by an earlier try": {attach, "LinkVolume", []reply{lost, inTheWay}, volume("in-use", link("i-12345678", "/dev/xvdf", "attaching")), reply{}, 2, nil},
		"still creating":           {attach, "LinkVolume", []reply{inTheWay, done}, volume("creating", ""), reply{}, 2, nil},
		"creating for good":        {attach, "LinkVolume", []reply{inTheWay}, volume("creating", ""), reply{}, 6, errUnsettled},
		"linked elsewhere":         {attach, "LinkVolume", []reply{inTheWay}, volume("in-use", link("i-00000000", "/dev/xvdf", "attached")), reply{}, 1, errRefused},
		"device taken": {attach, "LinkVolume", []reply{inTheWay}, volume("available", ""),
			vm("running", `{"DeviceName":"/dev/sdf","Bsu":{"VolumeId":"vol-0000000f"}}`), 1, bake.ErrDeviceTaken},
		"device taken, told as a bad request": {attach, "LinkVolume", []reply{refused(400, "InvalidParameterValue", "4999", "device")}, volume("available", ""),
			vm("running", `{"DeviceName":"/dev/xvdf"}`), 1, bake.ErrDeviceTaken},
		"VM starts": {attach, "LinkVolume", []reply{inTheWay, done}, volume("available", ""), vm("pending", ""), 2, nil},
		"device taken, which the VM does not tell yet": {attach, "LinkVolume", []reply{inTheWay}, volume("available", ""), vm("running", ""), 1, bake.ErrDeviceTaken},
		"VM stops":       {attach, "LinkVolume", []reply{inTheWay}, volume("available", ""), vm("stopping", ""), 1, errRefused},
		"no volume":      {attach, "LinkVolume", []reply{noVolume}, none, reply{}, 1, bake.ErrNotFound},
		"detached":       {detach, "UnlinkVolume", []reply{inTheWay}, volume("available", ""), reply{}, 1, nil},
		"detaching":      {detach, "UnlinkVolume", []reply{inTheWay}, volume("in-use", link("i-12345678", "/dev/xvdf", "detaching")), reply{}, 1, nil},
		"another's":      {detach, "UnlinkVolume", []reply{inTheWay}, volume("in-use", link("i-00000000", "/dev/xvdf", "attached")), reply{}, 1, nil},
		"attaching":      {detach, "UnlinkVolume", []reply{inTheWay, done}, volume("in-use", link("i-12345678", "/dev/xvdf", "attaching")), reply{}, 2, nil},
		"cannot detach":  {detach, "UnlinkVolume", []reply{inTheWay}, volume("in-use", link("i-12345678", "/dev/xvdf", "attached")), reply{}, 1, errRefused},
		"detached, gone": {detach, "UnlinkVolume", []reply{noVolume}, none, reply{}, 1, nil},
		"deleted":        {remove, "DeleteVolume", []reply{noVolume}, none, reply{}, 1, nil},
		"deleting":       {remove, "DeleteVolume", []reply{inTheWay}, volume("deleting", ""), reply{}, 1, nil},
		"on its way off": {remove, "DeleteVolume", []reply{inTheWay, done}, volume("in-use", link("i-12345678", "/dev/xvdf", "detaching")), reply{}, 2, nil},
		"in use":         {remove, "DeleteVolume", []reply{inTheWay}, volume("in-use", link("i-12345678", "/dev/xvdf", "attached")), reply{}, 1, errRefused},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			s := newFake(t, map[string][]reply{test.call: test.answers, "ReadVolumes": {test.volume}, "ReadVms": {test.vm}})
			err := test.act(s.cloud(Options{}))
			switch {
			case test.err == nil && err != nil,
				errors.Is(test.err, errRefused) && !is(err, (*refusal).wrongRequest),
				test.err != nil && !errors.Is(test.err, errRefused) && !errors.Is(err, test.err):
				t.Errorf("the error is %v, want %v", err, test.err)
			}
			if n := s.count(test.call); n != test.tries {
				t.Errorf("%d tries, want %d", n, test.tries)
			}
		})
	}
}

// errRefused stands for the API's own refusal.
var errRefused = errors.New("a refusal")

func TestDeleteSnapshotInUse(t *testing.T) {
	const id = "snap-12345678"
	there := reply{200, `{"Snapshots":[{"SnapshotId":"` + id + `","State":"completed"}]}`}
	used := reply{200, `{"Images":[{"ImageId":"ami-12345678","AccountId":"` + me + `","BlockDeviceMappings":[{"Bsu":{"SnapshotId":"` + id + `"}}]}]}`}
	none := reply{200, `{"Images":[]}`}
	tests := map[string]struct {
		answers          []reply
		snapshot, images reply
		tries            int
		err              string
	}{
		"by an image":               {[]reply{inTheWay}, there, used, 1, "image ami-12345678 uses it"},
		"by an image that is going": {[]reply{inTheWay, inTheWay, done}, there, none, 3, ""},
		"gone meanwhile":            {[]reply{inTheWay}, reply{200, `{"Snapshots":[]}`}, none, 1, ""},
		"for no reason, for good":   {[]reply{inTheWay}, there, none, 6, "not yet"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			s := newFake(t, map[string][]reply{"DeleteSnapshot": test.answers, "ReadSnapshots": {test.snapshot}, "ReadImages": {test.images}})
			err := s.cloud(Options{}).DeleteSnapshot(t.Context(), id)
			if (err == nil) != (test.err == "") || err != nil && !strings.Contains(err.Error(), test.err) {
				t.Errorf("the error is %v, want %q", err, test.err)
			}
			if n := s.count("DeleteSnapshot"); n != test.tries {
				t.Errorf("%d tries, want %d", n, test.tries)
			}
		})
	}
}

// TestPages: a reading call reads to the last page, and stops at a token that
// does not move.
func TestPages(t *testing.T) {
	page := func(id, next string) reply {
		return reply{200, `{"Volumes":[{"VolumeId":"` + id + `","Tags":[{"Key":"packer-chroot-build","Value":"b"}]}],"NextPageToken":"` + next + `"}`}
	}
	s := newFake(t, map[string][]reply{"ReadVolumes": {page("vol-00000001", "a"), page("vol-00000002", "b"), page("vol-00000003", "b")}})
	got, err := s.cloud(Options{}).readVolumes(t.Context(), nil)
	if err != nil || len(got) != 3 {
		t.Errorf("%v, %v", got, err)
	}
	if n := s.count("ReadVolumes"); n != 3 {
		t.Errorf("%d pages", n)
	}
}

// TestPatience: an API that never answers, or never does what it is asked, is waited
// for no longer than the user says.
func TestPatience(t *testing.T) {
	silent := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body) // the end of the connection is seen only then
		<-r.Context().Done()
	}))
	defer silent.Close()
	busy := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusServiceUnavailable) }))
	defer busy.Close()
	for _, server := range []*httptest.Server{silent, busy} {
		access := Access{AccessKey: myKey, SecretKey: secret, Region: home, Endpoint: server.URL, Patience: time.Second}
		_, err := Dial(t.Context(), access)
		if !errors.Is(err, errGivenUp) {
			t.Errorf("it ended with %v", err)
		}
	}
}
