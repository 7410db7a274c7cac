package osc

import (
	"context"
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	gotoken "go/token"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/packer-chroot/packer-plugin-chroot/bake"
	"github.com/packer-chroot/packer-plugin-chroot/bake/cloudtest"
	"github.com/packer-chroot/packer-plugin-chroot/retry"
)

var (
	busy       = refused(503, "AccessDenied", "6", "Request rate exceeded")
	perCall    = refused(429, "AccessDenied", "25", "Request rate exceeded")
	perAccount = refused(429, "AccessDenied", "24", "Request rate exceeded")
	gateway    = reply{502, "<html>bad gateway"}
	sorry      = refused(500, "InternalError", "2000", "sorry")
	lost       = reply{}
	noVolume   = refused(400, "InvalidResource", "5064", "no such volume")
	inTheWay   = refused(409, "ResourceConflict", "9999", "in the way")
	done       = reply{200, `{"ResponseContext":{"RequestId":"x"}}`}
	found      = reply{200, `{"Volumes":[{"VolumeId":"vol-12345678","State":"available","Size":1}]}`}
)

// many stands for a number of attempts that only the time limits.
const many = -1

// settled repeats a call as long as it is unsettled, a limited number of times, as bake does.
func settled[T any](call func() (T, error)) (got T, err error) {
	for range 9 {
		if got, err = call(); !errors.Is(err, bake.ErrUnsettled) {
			break
		}
	}
	return got, err
}

// TestRetryOfReadingCalls has responses to a reading call, the number of its attempts, and its error.
func TestRetryOfReadingCalls(t *testing.T) {
	tests := map[string]struct {
		answers []reply
		tries   int
		err     string
	}{
		"at once":                 {[]reply{found}, 1, ""},
		"throttled":               {[]reply{busy, perCall, busy, found}, 4, ""},
		"connection lost":         {[]reply{lost, lost, found}, 3, ""},
		"gateway":                 {[]reply{gateway, found}, 2, ""},
		"refused":                 {[]reply{refused(400, "InvalidParameter", "3001", "no filter Colour")}, 1, "ReadVolumes: HTTP 400, InvalidParameter (code 3001): no filter Colour [request 0475ca1e]"},
		"a fault of theirs":       {[]reply{sorry, sorry, found}, 3, ""},
		"broken for good":         {[]reply{sorry}, many, "failing inside the cloud since 07:00:00 UTC, for 2m0s"},
		"broken now and then":     {[]reply{sorry, busy, sorry, lost, sorry, found}, 6, ""},
		"not JSON":                {[]reply{{200, "<html>"}}, 1, "ReadVolumes"},
		"throttled for good":      {[]reply{busy}, many, "throttled since 07:00:00 UTC, for 10m0s"},
		"throttled as an account": {[]reply{perAccount, perAccount, found}, 3, ""},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			s := newFake(t, map[string][]reply{"ReadVolumes": test.answers})
			v, err := s.cloud(Config{}).Volume(t.Context(), "vol-12345678")
			switch {
			case test.err == "" && (err != nil || v.State != bake.VolumeAvailable):
				t.Errorf("%+v, %v", v, err)
			case test.err != "" && (err == nil || !strings.Contains(err.Error(), test.err)):
				t.Errorf("the error is %v, not about %q", err, test.err)
			}
			if n := s.count("ReadVolumes"); n != test.tries && (test.tries != many || n < 6) {
				t.Errorf("%d tries, want %d", n, test.tries)
			}
		})
	}
}

// TestFaultedCallsAreRetried checks that the retry of a call that failed in the API has no
// second effect. The call may have taken effect.
func TestFaultedCallsAreRetried(t *testing.T) {
	volume := reply{200, `{"Volume":{"VolumeId":"vol-12345678"}}`}
	snapshot := reply{200, `{"Snapshot":{"SnapshotId":"snap-12345678"}}`}
	image := `{"ImageId":"ami-12345678","ImageName":"made","AccountId":"` + me + `","BlockDeviceMappings":[{"Bsu":{"SnapshotId":"snap-12345678"}}]}`
	s := newFake(t, map[string][]reply{
		"CreateVolume": {sorry, volume}, "CreateTags": {sorry, done}, "CreateSnapshot": {sorry, snapshot},
		"CreateImage": {sorry, {200, `{"Image":` + image + `}`}}, "ReadImages": {sorry, {200, `{"Images":[` + image + `]}`}},
	})
	c := s.cloud(Config{})
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
	c := s.cloud(Config{})
	_, err := c.Register(t.Context(), bake.ImageSpec{Build: "b", Name: "made", Snapshot: "snap-12345678"})
	if passed := c.client.retry.Clock.(*cloudtest.Clock).Passed(); retry.Trouble(err) == nil || passed > retry.FailingFor+time.Second {
		t.Errorf("%v after %v", err, passed)
	}
}

// TestEveryTryIsSigned checks that each retry is signed with its own time.
func TestEveryTryIsSigned(t *testing.T) {
	s := newFake(t, map[string][]reply{"ReadVolumes": {busy, found}})
	c := s.cloud(Config{})
	c.client.retry.Clock = sleeper(func(ctx context.Context, _ time.Duration) error {
		return retry.Policy{}.Sleep(ctx, time.Until(time.Now().Truncate(time.Second).Add(time.Second)))
	})
	if _, err := c.Volume(t.Context(), "vol-12345678"); err != nil {
		t.Fatal(err)
	}
	first, second := s.seen["ReadVolumes"][0].Header, s.seen["ReadVolumes"][1].Header
	if first.Get("X-Amz-Date") == second.Get("X-Amz-Date") || first.Get("Authorization") == second.Get("Authorization") {
		t.Errorf("two tries of %s and %s are signed alike", first.Get("X-Amz-Date"), second.Get("X-Amz-Date"))
	}
}

// sleeper is a clock with its own Sleep.
type sleeper func(context.Context, time.Duration) error

func (sleeper) Now() time.Time { return time.Now() }

func (s sleeper) Sleep(ctx context.Context, d time.Duration) error { return s(ctx, d) }

func TestRetryEndsWithContext(t *testing.T) {
	s := newFake(t, map[string][]reply{"ReadVolumes": {busy}})
	c := s.cloud(Config{})
	ctx, cancel := context.WithCancelCause(t.Context())
	why := errors.New("the user has enough")
	c.client.retry.Clock = sleeper(func(ctx context.Context, d time.Duration) error {
		cancel(why)
		return retry.Policy{}.Sleep(ctx, d)
	})
	if _, err := c.Volume(ctx, "vol-12345678"); !errors.Is(err, why) || s.count("ReadVolumes") != 1 {
		t.Errorf("%v after %d tries", err, s.count("ReadVolumes"))
	}
}

// TestKinds checks the kind of each error.
func TestKinds(t *testing.T) {
	refusedDial := &transportError{&net.OpError{Op: "dial", Err: errors.New("connection refused")}}
	noHost := &transportError{&net.OpError{Op: "dial", Err: &net.DNSError{IsNotFound: true}}}
	tests := map[string]struct {
		err             error
		before, reached retry.Kind // before anything was reached, and after
	}{
		"dial":                        {refusedDial, retry.Unreached, retry.Unreached},
		"no such host":                {noHost, retry.Permanent, retry.Unreached},
		"broken connection":           {&transportError{io.ErrUnexpectedEOF}, retry.Lost, retry.Lost},
		"time-out":                    {&transportError{context.DeadlineExceeded}, retry.Lost, retry.Lost},
		"bad request":                 {&refusal{Status: 400}, retry.Permanent, retry.Permanent},
		"conflict":                    {&refusal{Status: 409}, retry.Permanent, retry.Permanent},
		"throttled":                   {&refusal{Status: 429}, retry.Throttled, retry.Throttled},
		"the platform is throttled":   {&refusal{Status: 503, Code: "6"}, retry.Throttled, retry.Throttled},
		"the platform is not well":    {&refusal{Status: 503}, retry.Fault, retry.Fault},
		"a fault of theirs":           {&refusal{Status: 500}, retry.Fault, retry.Fault},
		"a gateway without an answer": {&refusal{Status: 504}, retry.Lost, retry.Lost},
		"a call that the API has not": {&refusal{Status: 501}, retry.Permanent, retry.Permanent},
		"no fault of the transport":   {errors.New("something"), retry.Permanent, retry.Permanent},
	}
	for name, test := range tests {
		c := Client{reached: new(atomic.Bool)}
		if got := c.kindOf(test.err); got != test.before {
			t.Errorf("%s at first: %v", name, got)
		}
		c.reached.Store(true)
		if got := c.kindOf(test.err); got != test.reached {
			t.Errorf("%s later: %v", name, got)
		}
	}
}

// eachConflict runs a test with a conflict in each of the forms that it can have.
func eachConflict(t *testing.T, test func(*testing.T, reply)) {
	t.Helper()
	for _, no := range []reply{
		inTheWay,
		refused(400, "ResourceConflict", "9029", "in the way"),
		refused(400, "InvalidState", "6003", "in the way"),
		refused(424, "InvalidVolumeState", "", "in the way"),
	} {
		t.Run(fmt.Sprint(no.status, " ", no.body[:40]), func(t *testing.T) { test(t, no) })
	}
}

// TestConflictDetection checks that a conflict is detected by its type or code, not by its
// status.
func TestConflictDetection(t *testing.T) {
	for _, test := range []struct {
		no   refusal
		want bool
	}{
		{refusal{Status: 409}, true},
		{refusal{Status: 400, Code: "9029", Type: "ResourceConflict"}, true},
		{refusal{Status: 400, Code: "6003", Type: "InvalidState"}, true},
		{refusal{Status: 424, Type: "InvalidVolumeState"}, true},
		{refusal{Status: 400, Code: "6007"}, true},
		{refusal{Status: 400, Code: "5064", Type: "InvalidResource"}, false},
		{refusal{Status: 400, Code: "4120", Type: "InvalidParameterValue"}, false},
		{refusal{Status: 503, Code: "6", Type: "AccessDenied"}, false},
		{refusal{Status: 400, Code: "10001", Type: "InsufficientCapacity"}, false},
	} {
		if got := test.no.conflict(); got != test.want {
			t.Errorf("%v: %t", &test.no, got)
		}
	}
}

// TestConflicts checks that a refusal because of a state is examined, and not taken for an
// outcome.
func TestConflicts(t *testing.T) { eachConflict(t, conflicting) }

func conflicting(t *testing.T, inTheWay reply) {
	t.Helper()
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
		err     error // the wrapped error; nil if there is none
	}{
		"linked by an earlier try": {attach, "LinkVolume", []reply{lost, inTheWay}, volume("in-use", link("i-12345678", "/dev/xvdf", "attaching")), reply{}, 2, nil},
		"still creating":           {attach, "LinkVolume", []reply{inTheWay, done}, volume("creating", ""), reply{}, 2, nil},
		"creating for good":        {attach, "LinkVolume", []reply{inTheWay}, volume("creating", ""), reply{}, many, bake.ErrUnsettled},
		"linked elsewhere":         {attach, "LinkVolume", []reply{inTheWay}, volume("in-use", link("i-00000000", "/dev/xvdf", "attached")), reply{}, 1, errRefused},
		"device taken": {attach, "LinkVolume", []reply{inTheWay}, volume("available", ""),
			vm("running", `{"DeviceName":"/dev/sdf","Bsu":{"VolumeId":"vol-0000000f"}}`), 1, bake.ErrDeviceTaken},
		"device taken, told as a bad request": {attach, "LinkVolume", []reply{refused(400, "InvalidParameterValue", "4999", "device")}, volume("available", ""),
			vm("running", `{"DeviceName":"/dev/xvdf"}`), 1, bake.ErrDeviceTaken},
		"VM starts": {attach, "LinkVolume", []reply{inTheWay, done}, volume("available", ""), vm("pending", ""), 2, nil},
		"device taken, which the VM does not tell yet": {attach, "LinkVolume", []reply{inTheWay}, volume("available", ""), vm("running", ""), many, bake.ErrDeviceTaken},
		"device name refused": {attach, "LinkVolume", []reply{refused(400, "InvalidParameterValue", "4999", "device")}, volume("available", ""),
			vm("running", ""), 1, errRefused},
		"not known yet":                 {attach, "LinkVolume", []reply{noVolume, done}, volume("available", ""), vm("running", ""), 2, nil},
		"not known to be available yet": {attach, "LinkVolume", []reply{refused(409, "InvalidState", "6007", "creating"), done}, volume("available", ""), vm("running", ""), 2, nil},
		"no VM":                         {attach, "LinkVolume", []reply{refused(400, "InvalidResource", "5063", "no such VM")}, volume("available", ""), vm("running", ""), 1, errRefused},
		"attachment not known yet":      {detach, "UnlinkVolume", []reply{noVolume, inTheWay, done}, volume("in-use", link("i-12345678", "/dev/xvdf", "attached")), reply{}, 3, nil},
		"deleted, not known yet":        {remove, "DeleteVolume", []reply{noVolume, inTheWay, done}, volume("available", ""), reply{}, 3, nil},
		"VM stops":                      {attach, "LinkVolume", []reply{inTheWay}, volume("available", ""), vm("stopping", ""), 1, errRefused},
		"no volume":                     {attach, "LinkVolume", []reply{noVolume}, none, reply{}, 1, bake.ErrNotFound},
		"detached":                      {detach, "UnlinkVolume", []reply{inTheWay}, volume("available", ""), reply{}, 1, nil},
		"detaching":                     {detach, "UnlinkVolume", []reply{inTheWay}, volume("in-use", link("i-12345678", "/dev/xvdf", "detaching")), reply{}, 1, nil},
		"another's":                     {detach, "UnlinkVolume", []reply{inTheWay}, volume("in-use", link("i-00000000", "/dev/xvdf", "attached")), reply{}, 1, nil},
		"attaching":                     {detach, "UnlinkVolume", []reply{inTheWay, done}, volume("in-use", link("i-12345678", "/dev/xvdf", "attaching")), reply{}, 2, nil},
		"cannot detach":                 {detach, "UnlinkVolume", []reply{inTheWay}, volume("in-use", link("i-12345678", "/dev/xvdf", "attached")), reply{}, many, bake.ErrUnsettled},
		"detached, gone":                {detach, "UnlinkVolume", []reply{noVolume}, none, reply{}, 1, nil},
		"deleted":                       {remove, "DeleteVolume", []reply{noVolume}, none, reply{}, 1, nil},
		"deleting":                      {remove, "DeleteVolume", []reply{inTheWay}, volume("deleting", ""), reply{}, 1, nil},
		"on its way off":                {remove, "DeleteVolume", []reply{inTheWay, done}, volume("in-use", link("i-12345678", "/dev/xvdf", "detaching")), reply{}, 2, nil},
		"in use":                        {remove, "DeleteVolume", []reply{inTheWay}, volume("in-use", link("i-12345678", "/dev/xvdf", "attached")), reply{}, 1, errRefused},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			s := newFake(t, map[string][]reply{test.call: test.answers, "ReadVolumes": {test.volume}, "ReadVms": {test.vm}})
			cloud := s.cloud(Config{})
			_, err := settled(func() (bool, error) { return true, test.act(cloud) })
			switch {
			case test.err == nil && err != nil,
				errors.Is(test.err, errRefused) && !isRefusal(err, (*refusal).wrongRequest),
				test.err != nil && !errors.Is(test.err, errRefused) && !errors.Is(err, test.err):
				t.Errorf("the error is %v, want %v", err, test.err)
			}
			if n := s.count(test.call); n != test.tries && (test.tries != many || n < 6) {
				t.Errorf("%d tries, want %d", n, test.tries)
			}
		})
	}
}

// errRefused stands for the API's own refusal.
var errRefused = errors.New("a refusal")

func TestDeleteSnapshotInUse(t *testing.T) { eachConflict(t, snapshotInUse) }

func snapshotInUse(t *testing.T, inTheWay reply) {
	t.Helper()
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
		"for no reason, for good":   {[]reply{inTheWay}, there, none, many, "cannot delete snapshot"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			s := newFake(t, map[string][]reply{"DeleteSnapshot": test.answers, "ReadSnapshots": {test.snapshot}, "ReadImages": {test.images}})
			cloud := s.cloud(Config{})
			_, err := settled(func() (bool, error) { return true, cloud.DeleteSnapshot(t.Context(), id) })
			if (err == nil) != (test.err == "") || err != nil && !strings.Contains(err.Error(), test.err) {
				t.Errorf("the error is %v, want %q", err, test.err)
			}
			if again := test.tries == many; again != errors.Is(err, bake.ErrUnsettled) {
				t.Errorf("it is marked as unsettled: %t", !again)
			}
			if n := s.count("DeleteSnapshot"); n != test.tries && (test.tries != many || n < 6) {
				t.Errorf("%d tries, want %d", n, test.tries)
			}
		})
	}
}

// TestReadAllPages checks that a reading call reads to the last page. A repeated token is an
// error, because the missing entries would not be noticed.
func TestReadAllPages(t *testing.T) {
	page := func(id, next string) reply {
		return reply{200, `{"Volumes":[{"VolumeId":"` + id + `","Tags":[{"Key":"packer-chroot-build","Value":"b"}]}],"NextPageToken":"` + next + `"}`}
	}
	for last, want := range map[string]string{"": "", "b": `ReadVolumes repeats the page token "b"`} {
		s := newFake(t, map[string][]reply{"ReadVolumes": {page("vol-00000001", "a"), page("vol-00000002", "b"), page("vol-00000003", last)}})
		got, err := s.cloud(Config{}).readVolumes(t.Context(), nil)
		switch {
		case want == "" && (err != nil || len(got) != 3):
			t.Errorf("%v, %v", got, err)
		case want != "" && (err == nil || !strings.Contains(err.Error(), want)):
			t.Errorf("got %v, %v, want an error with %s", got, err, want)
		}
		if n := s.count("ReadVolumes"); n != 3 {
			t.Errorf("%d pages", n)
		}
	}
}

// TestWaitLimit checks that the user's limit ends the wait for an API that never responds, or
// never does what was requested.
func TestWaitLimit(t *testing.T) {
	silent := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body) // the end of the connection is seen only then
		<-r.Context().Done()
	}))
	defer silent.Close()
	busy := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusServiceUnavailable) }))
	defer busy.Close()
	for _, server := range []*httptest.Server{silent, busy} {
		access := Access{AccessKey: myKey, SecretKey: secret, Region: home, Endpoint: server.URL, WaitLimit: time.Second}
		_, err := Dial(t.Context(), access)
		if retry.Trouble(err) == nil {
			t.Errorf("it ended with %v", err)
		}
	}
}

// TestTableOfOperations checks that each operation of calls.go, and no other, has an entry.
func TestTableOfOperations(t *testing.T) {
	file, err := parser.ParseFile(gotoken.NewFileSet(), "calls.go", nil, parser.SkipObjectResolution)
	if err != nil {
		t.Fatal(err)
	}
	found := 0
	ast.Inspect(file, func(n ast.Node) bool {
		spec, ok := n.(*ast.ValueSpec)
		if !ok || len(spec.Values) != 1 {
			return true
		}
		literal, ok := spec.Values[0].(*ast.BasicLit)
		if !ok {
			return true
		}
		found++
		if action, err := strconv.Unquote(literal.Value); err != nil || operations[action].Repeat == 0 {
			t.Errorf("the table does not say how %s is made again", literal.Value)
		}
		return true
	})
	if found != len(operations) {
		t.Errorf("calls.go has %d operations, and the table %d", found, len(operations))
	}
}
