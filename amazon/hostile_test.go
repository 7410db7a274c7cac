package amazon

import (
	"bytes"
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/hashicorp/packer-plugin-sdk/template/config"

	"github.com/packer-chroot/packer-plugin-chroot/bake"
	"github.com/packer-chroot/packer-plugin-chroot/bake/cloudtest"
	"github.com/packer-chroot/packer-plugin-chroot/loopcloud/state"
)

// foreignResources are resources of the account that no build has created.
type foreignResources struct {
	volume   string
	snapshot string // of volume
	image    string // the source of builds
}

// falsifier is a test cloud whose responses are falsified on their way to the builder. It records
// which resources the builder would have removed.
type falsifier struct {
	*testCloud
	*cloudtest.Falsifier
	theirs foreignResources
}

// newFalsifier returns a falsifier that falsifies nothing until Change is set.
func newFalsifier(t *testing.T) *falsifier {
	t.Helper()
	tc := newTestCloud(t, state.Instant())
	f := &falsifier{testCloud: tc, theirs: foreignResources{image: tc.source}}
	root := tc.find(t, bake.ImageID(tc.source)).Mappings[0].Volume.SnapshotID
	volume, err := tc.state.CreateVolume(account, state.VolumeRequest{Zone: "eu-west-1a", SnapshotID: root, Type: "gp3", IDDigits: 17})
	if err != nil {
		t.Fatal(err)
	}
	snapshot, err := tc.state.CreateSnapshot(account, state.SnapshotRequest{VolumeID: volume.ID, IDDigits: 17})
	if err != nil {
		t.Fatal(err)
	}
	f.theirs.volume, f.theirs.snapshot = volume.ID, snapshot.ID
	f.Falsifier = &cloudtest.Falsifier{Next: tc.wire}
	server := httptest.NewServer(f)
	t.Cleanup(server.Close)
	tc.url = server.URL
	return f
}

// falsify replaces the matches of a pattern in the responses to an action; with after, only once
// that action was called.
func (f *falsifier) falsify(action, pattern, with, after string) {
	find, due := regexp.MustCompile(pattern), after == ""
	f.Change = func(_ *http.Request, request, answer []byte) []byte {
		form, _ := url.ParseQuery(string(request))
		if due = due || form.Get("Action") == after; !due || form.Get("Action") != action {
			return answer
		}
		return find.ReplaceAll(answer, []byte(with))
	}
}

// removals are the IDs that the builder has asked to be removed or detached.
func (f *falsifier) removals() []string {
	var ids []string
	for _, request := range f.Requests() {
		_, body, _ := strings.Cut(request, " ")
		form, _ := url.ParseQuery(body)
		switch form.Get("Action") {
		case "DeleteVolume", "DetachVolume", "DeleteSnapshot", "DeregisterImage":
			ids = append(ids, form.Get("VolumeId")+form.Get("SnapshotId")+form.Get("ImageId"))
		}
	}
	return ids
}

// bakes builds an image with short waits. If fails is set, provisioning fails.
func (f *falsifier) bakes(t *testing.T, opts Config, fail error) error {
	t.Helper()
	opts.SourceAMI = f.source
	_, err := bake.Build(t.Context(), f.cloud(t, opts), cloudtest.Machine(), bake.Plan{
		Build: "build-1", ImageName: "new", Waits: cloudtest.ShortWaits(),
		Provision: func(context.Context, bake.Workplace) error { return fail },
	}, cloudtest.Log(t.Logf))
	return err
}

// TestFalseResponses has EC2 return false information in the middle of a build. Whatever the
// build does then, it requests the removal only of resources that it has created.
func TestFalseResponses(t *testing.T) {
	const anID, aState = `vol-[0-9a-f]+`, `<status>[a-z-]+</status>`
	tests := []struct {
		name, action, pattern, with, after string
		// says is a part of the error; empty if the build succeeds all the same.
		says string
	}{
		{"another volume is told of", "DescribeVolumes", anID, "THEIR-VOLUME", "", `EC2 returned "THEIR-VOLUME"`},
		{"another volume is told of, from attaching on", "DescribeVolumes", anID, "THEIR-VOLUME", "AttachVolume", `EC2 returned "THEIR-VOLUME"`},
		{"a new volume is another's", "DescribeVolumes", aState, "<status>in-use</status>", "", "it is in the state in-use"},
		{"what was made has no id", "CreateVolume", anID, "../../../dev/sda", "", "which is no id"},
		{"a volume without an id", "CreateVolume", anID, "", "", "cannot create a volume in "},
		{"what was made has no id, and neither has what is found", "CreateVolume", anID, "vol;reboot", "", "which is no id"},
		{"the volume is on another instance", "DescribeVolumes", `i-[0-9a-f]+`, "i-99999999", "", `attached to "i-99999999"`},
		{"the device is another", "DescribeVolumes", `<device>[^<]*</device>`, "<device>/dev/../../etc/passwd</device>", "", ""},
		{"another snapshot is told of", "DescribeSnapshots", `<snapshotId>[^<]*</snapshotId>`, "<snapshotId>THEIR-SNAPSHOT</snapshotId>", "", `EC2 returned "THEIR-SNAPSHOT"`},
		{"a snapshot without an id", "CreateSnapshot", `snap-[0-9a-f]+`, "../snap", "", "which is no id"},
		{"a snapshot that is not told of", "CreateSnapshot", `(?s)^.*$`, "<R/>", "", "without an id"},
		{"another image is told of", "DescribeImages", `<imageId>[^<]*</imageId>`, "<imageId>THEIR-IMAGE</imageId>", "RegisterImage", `EC2 returned "THEIR-IMAGE"`},
		{"an image without an id", "RegisterImage", `ami-[0-9a-f]+`, "", "", `cannot register image "new" of snap-`},
		{"every answer is of another kind", "DescribeVolumes", `(?s).*`, "<html>not here</html>", "CreateVolume", "volume vol-"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			f := newFalsifier(t)
			names := strings.NewReplacer("THEIR-VOLUME", f.theirs.volume, "THEIR-SNAPSHOT", f.theirs.snapshot, "THEIR-IMAGE", f.theirs.image)
			f.falsify(test.action, test.pattern, names.Replace(test.with), test.after)
			err := f.bakes(t, Config{}, nil)
			if test.says != "" {
				says(t, err, names.Replace(test.says))
			} else if err != nil {
				t.Error(err)
			}
			f.unharmed(t)
		})
	}
}

// TestForeignIDInResponse has a creating call return the id of an existing resource that does
// not belong to the build and is as similar as possible. The build reports it and does not touch it.
func TestForeignIDInResponse(t *testing.T) {
	tests := []struct {
		name, action, with string
		opts               Config
	}{
		{"another volume", "CreateVolume", "THEIR-VOLUME", Config{}},
		{"another image's snapshot", "CreateSnapshot", "THEIR-SNAPSHOT", Config{}},
		{"the source's snapshot", "CreateSnapshot", "SOURCE-SNAPSHOT", Config{}},
		{"another image", "RegisterImage", "THEIR-IMAGE", Config{PublishConfig: PublishConfig{AMIUsers: []string{"222222222222"}}}},
		{"another image, as a copy", "CopyImage", "THEIR-IMAGE", Config{EncryptionConfig: EncryptionConfig{EncryptBoot: config.TriTrue, KMSKeyID: "alias/own"}, PublishConfig: PublishConfig{AMIUsers: []string{"222222222222"}}}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			f := newFalsifier(t)
			source := f.find(t, bake.ImageID(f.source)).Mappings[0].Volume.SnapshotID
			with := strings.NewReplacer("THEIR-VOLUME", f.theirs.volume, "SOURCE-SNAPSHOT", source,
				"THEIR-SNAPSHOT", f.theirs.snapshot, "THEIR-IMAGE", f.theirs.image).Replace(test.with)
			f.falsify(test.action, `(vol|snap|ami)-[0-9a-f]+`, with, "")
			t.Setenv("AWS_ENDPOINT_URL", f.url)
			before := f.things()
			says(t, f.bakes(t, test.opts, nil), with)
			f.unharmed(t)
			for _, request := range f.Requests() {
				if strings.Contains(request, with) && !strings.Contains(request, "Action=Describe") && (with != source || !strings.Contains(request, "Action=CreateVolume")) {
					t.Errorf("asked: %s", request)
				}
			}
			if after := f.things(); !slices.Equal(before, after) {
				t.Errorf("there were %v, and are %v", before, after)
			}
		})
	}
}

// things returns the IDs of all resources.
func (f *falsifier) things() (ids []string) {
	for _, v := range f.state.Volumes(account) {
		if v.State != state.VolumeDeleting {
			ids = append(ids, v.ID)
		}
	}
	for _, s := range f.state.Snapshots(account) {
		ids = append(ids, s.ID)
	}
	for _, i := range f.state.Images(account) {
		ids = append(ids, i.ID)
	}
	slices.Sort(ids)
	return ids
}

// TestForeignResourcesInLists adds foreign resources to the lists in which a build searches for
// its lost ones.
func TestForeignResourcesInLists(t *testing.T) {
	tests := []struct {
		name, lost string
		list, set  string
		of         func(foreignResources) string
		prefix     string // of lost resources
	}{
		{"volumes without the build's tag", "CreateVolume", "DescribeVolumes", "volumeSet", func(r foreignResources) string {
			return "<volumeId>" + r.volume + "</volumeId><status>available</status>"
		}, "vol-"},
		{"snapshots of another volume", "CreateSnapshot", "DescribeSnapshots", "snapshotSet", func(r foreignResources) string {
			return "<snapshotId>" + r.snapshot + "</snapshotId><volumeId>" + r.volume + "</volumeId><status>completed</status>"
		}, "snap-"},
		{"images of another snapshot", "RegisterImage", "DescribeImages", "imagesSet", func(r foreignResources) string {
			return "<imageId>" + r.image + "</imageId><imageState>available</imageState>" + uses(r.snapshot)
		}, "ami-"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			f := newFalsifier(t)
			asked := false
			f.Change = func(_ *http.Request, request, answer []byte) []byte {
				switch form, _ := url.ParseQuery(string(request)); {
				case form.Get("Action") == test.lost:
					asked = true
					return []byte("<R/>") // created, and not reported
				case asked && form.Get("Action") == test.list && !strings.Contains(string(request), "Id.1="):
					end := []byte("</" + test.set + ">")
					return bytes.Replace(answer, end, append([]byte("<item>"+test.of(f.theirs)+"</item>"), end...), 1)
				}
				return answer
			}
			says(t, f.bakes(t, Config{}, nil), "without an id")
			f.unharmed(t)
			lost := func(id string) bool { return strings.HasPrefix(id, test.prefix) }
			if removals := f.removals(); !slices.ContainsFunc(removals, lost) {
				t.Errorf("what was lost is not among the removals: %v", removals)
			}
		})
	}
}

// unharmed checks that foreign resources were not to be removed, and still exist.
func (f *falsifier) unharmed(t *testing.T) {
	t.Helper()
	for _, id := range f.removals() {
		if id == f.theirs.volume || id == f.theirs.snapshot || id == f.theirs.image || !regexp.MustCompile(`^(vol|snap|ami)-[0-9a-f]+$`).MatchString(id) {
			t.Errorf("%q was to be removed", id)
		}
	}
	f.find(t, bake.ImageID(f.theirs.image))
}

// TestCopyThatClaimsOldSnapshots undoes a copy whose block devices claim to use a snapshot
// that existed long before.
func TestCopyThatClaimsOldSnapshots(t *testing.T) {
	f := newFalsifier(t)
	in := regexp.MustCompile(`(<ebs>.*?<snapshotId>)[^<]*(</snapshotId>)`)
	old := regexp.MustCompile(`(<startTime>)\d{4}`)
	copied := false
	f.Change = func(_ *http.Request, request, answer []byte) []byte {
		switch form, _ := url.ParseQuery(string(request)); form.Get("Action") {
		case "CopyImage":
			copied = true
		case "EnableImageDeregistrationProtection":
			return []byte("<html>") // and so the build fails
		case "DescribeImages":
			if copied {
				return in.ReplaceAll(answer, []byte("${1}"+f.theirs.snapshot+"${2}"))
			}
		case "DescribeSnapshots":
			if form.Get("SnapshotId.1") == f.theirs.snapshot {
				return old.ReplaceAll(answer, []byte("${1}2001"))
			}
		}
		return answer
	}
	t.Setenv("AWS_ENDPOINT_URL", f.url)
	opts := Config{EncryptionConfig: EncryptionConfig{EncryptBoot: config.TriTrue}, PublishConfig: PublishConfig{DeregistrationProtection: ProtectionConfig{Enabled: true}}}
	says(t, f.bakes(t, opts, nil), "protect image")
	if !copied {
		t.Fatal("nothing was copied")
	}
	f.unharmed(t)
}

// TestEndlessLists has EC2 return new pages without end.
func TestEndlessLists(t *testing.T) {
	page := 0
	next := func(url.Values) (int, string) {
		page++
		return http.StatusOK, fmt.Sprintf("<R><nextToken>%d</nextToken></R>", page)
	}
	lists := []string{"DescribeVolumes", "DescribeSnapshots", "DescribeImages"}
	for name, test := range map[string]struct {
		act  action
		says string
	}{
		"the same page again": {answer("R", "<nextToken>a</nextToken>"), `repeats the page token "a"`},
		"always another page": {next, "no end after 1000 pages"},
		"a page without an end": {func(url.Values) (int, string) {
			return http.StatusOK, "<R><a>" + strings.Repeat("a", longestAnswer)
		}, "longer than 128 MiB"},
	} {
		t.Run(name, func(t *testing.T) {
			s := &fake{actions: map[string]action{}}
			for _, list := range lists {
				s.actions[list] = test.act
			}
			cloud := faked(t, s, Config{})
			_, err := cloud.FindVolumes(t.Context(), "build-1")
			says(t, err, test.says)
			if strings.Contains(name, "without") {
				return // one such response is as good as three
			}
			_, err = cloud.FindSnapshots(t.Context(), "vol-1")
			says(t, err, test.says, "DescribeSnapshots")
			_, err = cloud.Named(t.Context(), "new")
			says(t, err, test.says, "DescribeImages")
		})
	}
}
