package report

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/packer-chroot/packer-plugin-chroot/event"
	"github.com/packer-chroot/packer-plugin-chroot/testdir"
)

// errNo is the failure of tests.
var errNo = errors.New("no <b>bold</b> way, with the s3cr&t")

// recorded returns the report of a build of 20 seconds: connection, a call that is throttled, a wait beside a
// step, provisioners and a step that fails.
func recorded(t *testing.T, failure error) (made Report) {
	synctest.Test(t, func(*testing.T) {
		r := NewRecorder()
		emit := func(step string, e event.Event) { r.In(step).Hear(e) }
		time.Sleep(time.Second)
		r.Hear(event.Step{Name: "connect", Took: time.Second})
		time.Sleep(2 * time.Second)
		emit("create volume", event.Call{Service: "EC2", Action: "CreateVolume", Attempt: 1, Took: time.Second, Err: errNo})
		time.Sleep(2 * time.Second)
		emit("create volume", event.Call{Service: "EC2", Action: "CreateVolume", RequestID: "req-1", Attempt: 2, Pause: time.Second, Took: time.Second})
		r.Hear(event.Step{Name: "create volume", Took: 4 * time.Second})
		emit("attach volume", event.Wait{What: "volume vol-1", State: "creating", Looks: 1})
		time.Sleep(2 * time.Second)
		emit("attach volume", event.Wait{What: "volume vol-1", State: "available", Looks: 2, Took: 2 * time.Second, Done: true})
		emit("attach volume", event.Call{Service: "EC2", Action: "AttachVolume", Attempt: 1})
		r.Hear(event.Step{Name: "attach volume", Took: 2 * time.Second})
		r.Hear(event.Pause{After: "attach volume", Took: 0})
		emit("mount root", event.Mount{Source: "/dev/xvdf1", Target: "/mnt", Type: "ext4"})
		time.Sleep(8 * time.Second)
		emit(event.OtherBuilds, event.Call{Service: "EC2", Action: "DeleteVolume", Attempt: 1, Took: 8 * time.Second})
		emit("provision", event.Command{Place: "chroot", Line: "KEY='hush' sh -c 'a < b'", Status: 3, Took: 7 * time.Second})
		emit("provision", event.Transfer{Direction: event.ToImage, What: "/tmp/x", Bytes: 3 << 20, Took: time.Second})
		r.Hear(event.Step{Name: "provision", Users: true, Took: 8 * time.Second})
		time.Sleep(5 * time.Second)
		emit("", event.Resource{Kind: "volume", Name: "volume vol-1", Fate: event.Removed, Since: r.begun.Add(2 * time.Second)})
		r.Hear(event.Warning{Text: "take care of the s3cr&t"})
		r.Hear(event.Holder{Text: "ending process 7 (sshd)"})
		r.Hear(event.Undone{Name: "mount of /dev/xvdf1"})
		r.Hear(event.Held{What: "EC2 CreateVolume", Why: "throttled", Since: time.Now()})
		r.Hear(event.Packages{Installed: []event.Package{{Manager: "dpkg", Name: "libc6", Arch: "amd64", Version: "1"}, {Manager: "dpkg", Name: "nano", Version: "2"}}, Databases: []string{"/var/lib/dpkg/status"}})
		r.Hear(event.Packages{After: true, Installed: []event.Package{{Manager: "dpkg", Name: "libc6", Arch: "amd64", Version: "2"}, {Manager: "dpkg", Name: "vim", Version: "9"}}, Databases: []string{"/var/lib/dpkg/status"}})
		r.Hear(event.Step{Name: "finish root", Took: 5 * time.Second, Err: failure})
		made = r.Report(Info{Program: "amazon-chroot", Version: "1.2.3", Build: "B1", ImageName: "web <1>"}, []Image{{"eu-west-2", "ami-2", []string{"snap-2"}}}, failure)
	})
	return made
}

func TestDivisionOfTheTime(t *testing.T) {
	got := recorded(t, nil)
	// 2 s to 7 s are a call, the pause before its repetition, and the wait
	if want := (Division{Cloud: 5, Provisioners: 8, Builder: 7}); got.Division != want || got.Seconds != 20 {
		t.Errorf("%+v of %v, want %+v", got.Division, got.Seconds, want)
	}
}

func TestPartsDoNotOverlap(t *testing.T) {
	s := time.Second
	for name, test := range map[string]struct {
		cloud, users, pauses intervals
		want                 Division
	}{
		"nothing":           {nil, nil, nil, Division{Builder: 10}},
		"overlapping calls": {intervals{{5 * s, 7 * s}, {s, 3 * s}, {2 * s, 4 * s}}, nil, nil, Division{Cloud: 5, Builder: 5}},
		"a call during provisioning": {intervals{{0, 9 * s}}, intervals{{2 * s, 4 * s}}, intervals{{4 * s, 5 * s}, {3 * s, 4 * s}},
			Division{Cloud: 6, Provisioners: 1, Pauses: 2, Builder: 1}},
		"a call after the end": {intervals{{9 * s, 90 * s}, {50 * s, 60 * s}}, intervals{{8 * s, 9 * s}}, nil, Division{Cloud: 1, Provisioners: 1, Builder: 8}},
	} {
		if got := divide(10*s, test.cloud, test.users, test.pauses); got != test.want {
			t.Errorf("%s: %+v, want %+v", name, got, test.want)
		}
	}
}

func TestManyIntervalsAreJoined(t *testing.T) {
	var many intervals
	for i := range 10 * compactAt {
		many.add(time.Duration(i), time.Duration(i+1))
	}
	if len(many) > 2*compactAt || many.length() != 10*compactAt {
		t.Errorf("%d intervals of %d", len(many), many.length())
	}
}

func TestSummary(t *testing.T) {
	want := []string{
		"Summary: the build has failed after 20.0s",
		"connect                  1.0s |#                       |",
		"create volume            4.0s | #####                  |",
		"attach volume            2.0s |      ##                |",
		"provision                8.0s |        ##########      |",
		"finish root              5.0s |                  ######| failed",
		"the cloud 5.0s (25%), provisioners and commands 8.0s (40%), the builder 7.0s (35%)",
		"4 calls, of which 1 failed",
		"3.0 MiB to the image",
	}
	got := recorded(t, errNo).Summary()
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	for _, line := range got {
		if regexp.MustCompile(`[^ -~]`).MatchString(line) || len(line) > 100 {
			t.Errorf("%q cannot be in a log", line)
		}
	}
}

func TestFiguresOfCalls(t *testing.T) {
	for _, a := range recorded(t, nil).Actions {
		if a.Action != "CreateVolume" {
			continue
		}
		want := Action{
			Service: "EC2", Action: "CreateVolume", Calls: 2, Failed: 1, Repeated: 1, Total: 2, Fastest: 1, Median: 1, Slowest: 1,
			Errors: []string{errNo.Error()}, Steps: map[string]int{"create volume": 2},
		}
		if diff := cmp.Diff(want, a); diff != "" {
			t.Error(diff)
		}
	}
}

// TestCountedRequests checks that requests of which only failures are events are counted once, and that an
// upload is the cloud's time.
func TestCountedRequests(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := NewRecorder()
		time.Sleep(4 * time.Second)
		r.Hear(event.Call{Service: "EBS", Action: "PutSnapshotBlock", Attempt: 1, Err: errNo})
		r.Hear(event.Transfer{Direction: event.ToSnapshot, Bytes: 98 << 19, Took: 3 * time.Second})
		r.Hear(event.Requests{Service: "EBS", Action: "PutSnapshotBlock", Made: 99, Failed: 1})
		got := r.Report(Info{}, nil, nil)
		if a := got.Actions[0]; a.Calls != 99 || a.Failed != 1 || a.Total != 0 || got.Division.Cloud != 3 {
			t.Errorf("%+v, %+v", a, got.Division)
		}
	})
}

func TestStatesOfAWaitAreOneEntry(t *testing.T) {
	want := []Wait{{Name: "volume vol-1", Span: Span{Begin: 5, End: 7, Step: "attach volume"}, State: "available", Looks: 2}}
	if diff := cmp.Diff(want, recorded(t, nil).Waits); diff != "" {
		t.Error(diff)
	}
}

func TestListsAreNotEndless(t *testing.T) {
	r := NewRecorder()
	for range mostEntries + 7 {
		r.Hear(event.Call{Service: "EBS", Action: "GetSnapshotBlock", Attempt: 1, Took: time.Millisecond})
	}
	got := r.Report(Info{}, nil, nil)
	if len(got.Calls) != mostEntries || got.Omitted["calls"] != 7 || got.Actions[0].Calls != mostEntries+7 {
		t.Errorf("%d calls, %v omitted, %+v", len(got.Calls), got.Omitted, got.Actions)
	}
	if p, err := got.Page(); err != nil || !strings.Contains(string(p), "API calls: 3500 of the shortest are not drawn") {
		t.Errorf("the page does not tell of calls that are not drawn: %v", err)
	}
}

func TestComparedPackages(t *testing.T) {
	dpkg := func(name string, versions ...string) (all []event.Package) {
		for _, v := range versions {
			all = append(all, event.Package{Manager: "rpm", Name: name, Version: v})
		}
		return all
	}
	list := func(all ...[]event.Package) *event.Packages {
		p := &event.Packages{}
		for _, some := range all {
			p.Installed = append(p.Installed, some...)
		}
		return p
	}
	before := list(dpkg("bash", "1"), dpkg("kernel", "5", "6"), dpkg("gone", "1"), dpkg("same", "1"))
	after := list(dpkg("bash", "2"), dpkg("kernel", "6", "7", "8"), dpkg("new", "1"), dpkg("same", "1"))
	got := compare(before, after)
	want := &Packages{
		Before: 5, After: 6, Compared: true,
		Added:   []Package{{"rpm", "kernel", "", "8"}, {"rpm", "new", "", "1"}},
		Removed: []Package{{"rpm", "gone", "", "1"}},
		Changed: []PackageChange{{"rpm", "bash", "", "1", "2"}, {"rpm", "kernel", "", "5", "7"}},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	after.Problems = []string{"damaged"}
	if got := compare(before, after); got.Compared || len(got.Removed) > 0 {
		t.Errorf("compared with a list that could not be read: %+v", got)
	}
	if got := compare(before, nil); got.Compared {
		t.Errorf("compared with nothing: %+v", got)
	}
}

// TestSecretsAreRemovedFromAllFormats checks that a secret is removed although JSON and HTML write its
// characters in another way.
func TestSecretsAreRemovedFromAllFormats(t *testing.T) {
	r, err := recorded(t, errNo).Redacted(func(s string) string { return strings.ReplaceAll(s, "s3cr&t", "<sensitive>") })
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(testdir.New(t), "r.html")
	if err := r.Write(path); err != nil {
		t.Fatal(err)
	}
	for _, name := range paths(path) {
		text, err := os.ReadFile(name)
		if err != nil || strings.Contains(string(text), "s3cr") || strings.Contains(string(text), "hush") || !strings.Contains(string(text), "sensitive") {
			t.Errorf("%s, %v:\n%s", name, err, text)
		}
	}
}

// TestFormats checks that the page has no markup from outside and refers to no other file, and that the
// JSON is the report.
func TestFormats(t *testing.T) {
	r := recorded(t, errNo)
	text, err := r.Page()
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"web &lt;1&gt;", "no &lt;b&gt;bold", "ami-2", "snap-2", "volume vol-1", "req-1", "CreateVolume", "take care", "sshd", "libc6", "vim", "nano", "/tmp/x", "exit status 3"} {
		if !strings.Contains(string(text), want) {
			t.Errorf("the page does not have %q", want)
		}
	}
	if found := regexp.MustCompile(`<script|<link|<img|src=|url\(|@import|https?://`).FindString(strings.ReplaceAll(string(text), "http://www.w3.org/2000/svg", "")); found != "" {
		t.Errorf("the page has %q", found)
	}
	data, err := r.JSON()
	if err != nil {
		t.Fatal(err)
	}
	var back Report
	if err := json.Unmarshal(data, &back); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(r, back); diff != "" {
		t.Error(diff)
	}
	if strings.Contains(string(data), ": null") {
		t.Errorf("the JSON has a null:\n%s", data)
	}
}

// TestTrace checks the trace events: bars that overlap are in different threads.
func TestTrace(t *testing.T) {
	text, err := recorded(t, nil).Trace()
	if err != nil {
		t.Fatal(err)
	}
	var trace struct{ TraceEvents []traceEvent }
	if err := json.Unmarshal(text, &trace); err != nil {
		t.Fatal(err)
	}
	ends, threads, found := map[int]int64{}, map[int]string{}, map[string]bool{}
	for _, e := range trace.TraceEvents {
		switch e.Phase {
		case "M":
			threads[e.Thread] = e.Args["name"]
		case "X":
			if e.Time < ends[e.Thread] || threads[e.Thread] == "" {
				t.Errorf("%s begins at %d in the thread %q, which is busy until %d", e.Name, e.Time, threads[e.Thread], ends[e.Thread])
			}
			ends[e.Thread], found[e.Name] = e.Time+*e.Duration, true
		}
	}
	for _, want := range []string{"provision", "volume vol-1", "EC2 AttachVolume", "KEY=… sh -c 'a < b'"} {
		if !found[want] {
			t.Errorf("the trace does not have %q", want)
		}
	}
}

// TestOrderOfSteps checks that steps of the same time stay in their order, and that a step is before its parts.
func TestOrderOfSteps(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := NewRecorder()
		for _, name := range []string{"replace images", "register image"} {
			r.Hear(event.Step{Name: name})
		}
		time.Sleep(time.Second)
		r.In("finish root").Hear(event.Step{Name: "pre_unmount_commands", Took: time.Second})
		r.Hear(event.Step{Name: "finish root", Took: time.Second})
		var names []string
		for _, s := range r.Report(Info{}, nil, nil).Steps {
			names = append(names, s.Name)
		}
		if diff := cmp.Diff([]string{"replace images", "register image", "finish root", "pre_unmount_commands"}, names); diff != "" {
			t.Error(diff)
		}
	})
}

func TestBarsSideBySide(t *testing.T) {
	b := band{bars: []bar{{Span: Span{Begin: 4, End: 5}}, {Span: Span{Begin: 0, End: 3}}, {Span: Span{Begin: 1, End: 2}}, {Span: Span{Begin: 2.5, End: 6}}}}
	b.arrange()
	var lanes []int
	for _, one := range b.bars {
		lanes = append(lanes, one.lane)
	}
	if diff := cmp.Diff([]int{0, 1, 1, 0}, lanes); diff != "" || b.lanes != 2 {
		t.Error(diff)
	}
}
