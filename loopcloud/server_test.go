//go:build linux

package loopcloud_test

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"syscall"
	"testing"

	"github.com/packer-chroot/packer-plugin-chroot/loopcloud"
	"github.com/packer-chroot/packer-plugin-chroot/loopcloud/fault"
	"github.com/packer-chroot/packer-plugin-chroot/loopcloud/state"
	"github.com/packer-chroot/packer-plugin-chroot/testdir"
)

var key = state.Key{ID: "AKIATEST", Secret: "secret"}

func newServer(t *testing.T, o loopcloud.Options) *loopcloud.Server {
	t.Helper()
	if o.Dir == "" {
		o.Dir = testdir.New(t)
	}
	o.Keys = []state.Key{key}
	s, err := loopcloud.New(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

// ask returns the response of a handler to a client on this machine.
func ask(h http.Handler, method, target, body string) *httptest.ResponseRecorder {
	r := httptest.NewRequest(method, target, strings.NewReader(body))
	r.RemoteAddr, r.Host = "127.0.0.1:1234", "127.0.0.1:4600"
	if s, ok := h.(*loopcloud.Server); ok && strings.HasPrefix(target, "/_loopcloud/") {
		authorize(r, s)
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w
}

// authorize adds the control token of a server to a request.
func authorize(r *http.Request, s *loopcloud.Server) {
	token, _ := s.Token()
	r.Header.Set("Authorization", "Bearer "+token)
}

// TestPathsOfAPIs checks that each path leads to its API.
func TestPathsOfAPIs(t *testing.T) {
	s := newServer(t, loopcloud.Options{})
	host, _ := s.Cloud().HostVM("eu-west-2")
	for _, test := range []struct{ method, target, body, want string }{
		{"POST", "/", "Action=DescribeRegions&Version=2016-11-15", "<Code>MissingAuthenticationToken</Code>"},
		{"GET", "/?Action=DescribeRegions&Version=2016-11-15", "", "<Code>MissingAuthenticationToken</Code>"},
		{"POST", "/", "Action=GetCallerIdentity&Version=2011-06-15", "<Type>Sender</Type><Code>MissingAuthenticationToken</Code>"},
		{"GET", "/?Action=GetCallerIdentity&Version=2011-06-15", "", "<Type>Sender</Type><Code>MissingAuthenticationToken</Code>"},
		{"GET", "/latest/meta-data/instance-id", "", host.ID},
		{"POST", "/api/v1/ReadVms", "{}", `"Errors"`},
		{"POST", "/api/latest/ReadVms", "{}", `"Errors"`},
		{"POST", "/snapshots", "{}", `{"Message":"The request cannot be authenticated`},
		{"GET", "/snapshots/snap-00000000/blocks", "", `{"Message":"The request cannot be authenticated`},
		{"GET", "/snapshots/elsewhere", "", `{"Message":"There is no GET /snapshots/elsewhere"}`},
		{"GET", "/_loopcloud/health", "", `"ok"`},
		{"GET", "/elsewhere", "", "nothing at /elsewhere"},
		{"GET", "/_loopcloud/elsewhere", "", "404"},
	} {
		if got := ask(s, test.method, test.target, test.body); !strings.Contains(got.Body.String(), test.want) {
			t.Errorf("%s %s: %d %s", test.method, test.target, got.Code, got.Body)
		}
	}
	var calls []fault.Call
	if err := json.Unmarshal(ask(s, "GET", "/_loopcloud/calls", "").Body.Bytes(), &calls); err != nil {
		t.Fatal(err)
	}
	var dialects []string
	for _, c := range calls {
		dialects = append(dialects, c.Dialect)
	}
	if want := []string{"ec2", "ec2", "sts", "sts", "imds", "oapi", "oapi", "ebs", "ebs", "ebs"}; !reflect.DeepEqual(dialects, want) {
		t.Errorf("recorded were %v, not %v", dialects, want)
	}
	if c := calls[0]; c.Action != "DescribeRegions" || c.Status < 400 || c.Account != "" {
		t.Errorf("the first call is %+v", c)
	}
}

// TestIdentity checks that every response of every dialect has the cloud's identity, also
// after it is opened again.
func TestIdentity(t *testing.T) {
	dir, told := testdir.New(t), map[string]bool{}
	for range 2 {
		s, err := loopcloud.New(loopcloud.Options{Dir: dir})
		if err != nil {
			t.Fatal(err)
		}
		for _, target := range []string{"/?Action=DescribeRegions&Version=2016-11-15", "/?Action=GetCallerIdentity&Version=2011-06-15",
			"/latest/meta-data/instance-id", "/api/v1/ReadVms"} {
			told[ask(s, "POST", target, "{}").Header().Get("Loopcloud-Id")] = true
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if s := newServer(t, loopcloud.Options{}); len(told) != 1 || told[""] || told[s.Cloud().Identity()] {
		t.Errorf("told %v, and another cloud is %q", told, s.Cloud().Identity())
	}
}

// testDisk returns a raw disk of three MiB with a little data.
func testDisk(t *testing.T) string {
	t.Helper()
	file := filepath.Join(testdir.New(t), "disk")
	f, err := os.Create(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for _, at := range []int64{0, 1 << 20, 3<<20 - 4} {
		if _, err := f.WriteAt([]byte("data"), at); err != nil {
			t.Fatal(err)
		}
	}
	return file
}

// images is the common interface of Server and Client.
type images interface {
	Images(context.Context) ([]loopcloud.Image, error)
	Import(context.Context, loopcloud.Import, string) (loopcloud.Image, error)
	Export(ctx context.Context, id, file string) error
}

// eachImages runs a test with a server and with a client of a server.
func eachImages(t *testing.T, test func(t *testing.T, s *loopcloud.Server, all images)) {
	t.Run("server", func(t *testing.T) {
		s := newServer(t, loopcloud.Options{})
		test(t, s, s)
	})
	t.Run("client", func(t *testing.T) {
		s := newServer(t, loopcloud.Options{})
		listening := httptest.NewServer(s)
		t.Cleanup(listening.Close)
		token, _ := s.Token()
		test(t, s, loopcloud.Client{Endpoint: listening.URL, Token: token})
	})
}

func TestImportAndExport(t *testing.T) {
	eachImages(t, func(t *testing.T, s *loopcloud.Server, all images) {
		img, err := all.Import(t.Context(), loopcloud.Import{
			Name: "a disk", Description: "d", ID: "ami-e81d5881", BootMode: "uefi-preferred", Architecture: "arm64",
			SizeGiB: 2, Tags: map[string]string{"a": "b=c"},
		}, testDisk(t))
		if err != nil {
			t.Fatal(err)
		}
		if img.ID != "ami-e81d5881" || img.Description != "d" || img.BootMode != "uefi-preferred" || img.Architecture != "arm64" ||
			img.SizeGiB != 2 || img.Tags["a"] != "b=c" || img.State != "available" || len(img.Snapshots) != 1 {
			t.Errorf("it is %+v", img)
		}
		list, err := all.Images(t.Context())
		if err != nil || !reflect.DeepEqual(list, []loopcloud.Image{img}) {
			t.Errorf("listed are %+v (%v)", list, err)
		}
		known := s.Cloud().Images(state.Caller{Account: state.DefaultAccount, Region: "eu-west-2"})[0]
		if !reflect.DeepEqual(known.BootModes, []string{"legacy", "uefi"}) || known.Mappings[0].Device != "/dev/sda1" {
			t.Errorf("the cloud knows %+v", known)
		}
		wantExport(t, all, img.ID)
	})
}

// wantExport checks that the exported disk is the test disk and sparse.
func wantExport(t *testing.T, all images, id string) {
	t.Helper()
	out := filepath.Join(testdir.New(t), "out")
	if err := all.Export(t.Context(), id, out); err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(out)
	if err != nil {
		t.Fatal(err)
	}
	if used := info.Sys().(*syscall.Stat_t).Blocks * 512; info.Size() != 2<<30 || used > 1<<20 {
		t.Errorf("the export has %d bytes and uses %d", info.Size(), used)
	}
	f, err := os.Open(out)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	want, _ := os.ReadFile(testDisk(t))
	got := make([]byte, len(want))
	if _, err := io.ReadFull(f, got); err != nil || !bytes.Equal(got, want) {
		t.Errorf("the export differs from the disk (%v)", err)
	}
}

func TestImportsThatAreRefused(t *testing.T) {
	eachImages(t, func(t *testing.T, s *loopcloud.Server, all images) {
		if _, err := all.Import(t.Context(), loopcloud.Import{Name: "taken"}, testDisk(t)); err != nil {
			t.Fatal(err)
		}
		for name, test := range map[string]struct {
			imp loopcloud.Import
			why string
		}{
			"name taken":   {loopcloud.Import{Name: "taken"}, "taken"},
			"short name":   {loopcloud.Import{Name: "ab"}, "3 to 128"},
			"no name":      {loopcloud.Import{}, "needs a name"},
			"strange id":   {loopcloud.Import{Name: "new", ID: "ami-x"}, "ami-x"},
			"boot mode":    {loopcloud.Import{Name: "new", BootMode: "coreboot"}, "coreboot"},
			"architecture": {loopcloud.Import{Name: "new", Architecture: "vax"}, "vax"},
			"region":       {loopcloud.Import{Name: "new", Region: "mars-1"}, "mars-1"},
		} {
			if _, err := all.Import(t.Context(), test.imp, testDisk(t)); err == nil || !strings.Contains(err.Error(), test.why) {
				t.Errorf("%s: the error is %v", name, err)
			}
		}
		if list, err := all.Images(t.Context()); err != nil || len(list) != 1 {
			t.Errorf("there are %+v (%v)", list, err)
		}
		if n := len(s.Cloud().Snapshots(state.Caller{Account: state.DefaultAccount, Region: "eu-west-2"})); n != 1 {
			t.Errorf("%d snapshots are left", n)
		}
		if err := all.Export(t.Context(), "ami-00000bad", filepath.Join(testdir.New(t), "out")); err == nil || !strings.Contains(err.Error(), "ami-00000bad") {
			t.Errorf("the error of an unknown image is %v", err)
		}
		if err := all.Export(t.Context(), list0(t, all), os.DevNull); err == nil || !strings.Contains(err.Error(), "regular") {
			t.Errorf("the error of a device for a file is %v", err)
		}
	})
}

func list0(t *testing.T, all images) string {
	t.Helper()
	list, err := all.Images(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return list[0].ID
}

func TestImportParameters(t *testing.T) {
	for _, imp := range []loopcloud.Import{
		{Name: "n", Tags: map[string]string{}},
		{Name: "n", Description: "d", ID: "i", BootMode: "b", Architecture: "a", Region: "r", Account: "o", SizeGiB: 3, Tags: map[string]string{"k": "v=w", "": ""}},
	} {
		if got, err := loopcloud.ImportOf(imp.Query()); err != nil || !reflect.DeepEqual(got, imp) {
			t.Errorf("%+v became %+v (%v)", imp, got, err)
		}
	}
	for _, query := range []map[string][]string{{"nam": {"n"}}, {"size": {"0"}}, {"size": {"big"}}, {"tag": {"k"}}} {
		if _, err := loopcloud.ImportOf(query); err == nil {
			t.Errorf("%v was taken", query)
		}
	}
}

// served serves on a free port until stop is called, which returns the error of Serve.
func served(t *testing.T) (address string, stop func() error) {
	t.Helper()
	s := newServer(t, loopcloud.Options{})
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- s.Serve(ctx, l) }()
	return l.Addr().String(), func() error {
		cancel()
		return <-ended
	}
}

// healthy checks the health of a server.
func healthy(t *testing.T, address string) {
	t.Helper()
	resp, err := http.Get("http://" + address + "/_loopcloud/health")
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
}

func TestServeEndsWithItsContext(t *testing.T) {
	address, stop := served(t)
	healthy(t, address)
	if err := stop(); err != nil {
		t.Error(err)
	}
	if _, err := http.Get("http://" + address); err == nil {
		t.Error("it still answers")
	}
}

// TestServeEndsWithConnectionsInReserve checks that stopping does not wait for connections
// that clients opened and do not use.
func TestServeEndsWithConnectionsInReserve(t *testing.T) {
	address, stop := served(t)
	for range 3 {
		conn, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", address)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
	}
	healthy(t, address) // all connections were accepted
	if err := stop(); err != nil {
		t.Error(err)
	}
}

func TestCustomDefaultRegion(t *testing.T) {
	s := newServer(t, loopcloud.Options{Region: "mars-north-1"})
	if s.Cloud().DefaultRegion() != "mars-north-1" || len(s.Cloud().Regions()) != 8 {
		t.Errorf("the regions are %v", s.Cloud().Regions())
	}
}

func TestNewRefusesInvalidOptions(t *testing.T) {
	dir := testdir.New(t)
	newServer(t, loopcloud.Options{Dir: dir})
	for name, o := range map[string]loopcloud.Options{
		"no directory":    {},
		"no cloud there":  {Dir: testdir.New(t), Existing: true},
		"no place for it": {Dir: "/dev/null/there", Existing: true},
		"directory taken": {Dir: dir},
		"naming unknown":  {Dir: testdir.New(t), Naming: "ide"},
	} {
		if s, err := loopcloud.New(o); err == nil {
			s.Close()
			t.Errorf("%s: it was made", name)
		}
	}
}

func TestCustomRegions(t *testing.T) {
	s := newServer(t, loopcloud.Options{Dir: testdir.New(t), Regions: []state.Region{
		state.NewRegion("us-east-1"), {Name: "me-south-1", OptIn: state.NotOptedIn},
	}})
	if got := s.Cloud().Regions(); s.Cloud().DefaultRegion() != "us-east-1" || len(got) != 1 || len(s.Cloud().AllRegions()) != 2 {
		t.Errorf("the regions are %v", got)
	}
	if _, err := loopcloud.New(loopcloud.Options{Dir: testdir.New(t), Regions: []state.Region{{Name: "me-south-1", OptIn: state.NotOptedIn}}}); err == nil {
		t.Error("the default region is one that nobody has opted in to")
	}
}

// TestNoHosts: a machine that is no instance has no metadata, also if it was one when the cloud was
// served before.
func TestNoHosts(t *testing.T) {
	dir := testdir.New(t)
	for _, none := range []bool{false, true} {
		s, err := loopcloud.New(loopcloud.Options{Dir: dir, NoHosts: none})
		if err != nil {
			t.Fatal(err)
		}
		want := http.StatusOK
		if none {
			want = http.StatusForbidden
		}
		for _, path := range []string{"/latest/meta-data/instance-id", "/latest/meta-data/", "/latest/dynamic/instance-identity/document"} {
			if got := ask(s, "GET", path, "").Code; got != want {
				t.Errorf("none=%v: the response for %s is %d, want %d", none, path, got, want)
			}
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// TestHosts checks that each host has its own instance, and metadata of that instance.
func TestHosts(t *testing.T) {
	s := newServer(t, loopcloud.Options{Hosts: 3})
	seen := map[string]bool{}
	for number := range 3 {
		vm, ok := s.Cloud().HostVMs("eu-west-2", number)
		if got := ask(s.Metadata(number), "GET", "/latest/meta-data/instance-id", "").Body.String(); !ok || got != vm.ID {
			t.Errorf("host %d is %s, and its metadata say %s", number, vm.ID, got)
		}
		seen[vm.ID] = true
	}
	if _, ok := s.Cloud().HostVMs("eu-west-2", 3); ok || len(seen) != 3 {
		t.Errorf("there are %v", seen)
	}
}
