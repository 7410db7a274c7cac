package osc

import (
	"bytes"
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/packer-chroot/packer-plugin-chroot/bake"
	"github.com/packer-chroot/packer-plugin-chroot/bake/cloudtest"
	"github.com/packer-chroot/packer-plugin-chroot/loopcloud/state"
)

// one and all note the ids that came without an error.
func one[ID ~string](ids *[]string) func(ID, error) {
	return func(id ID, err error) { all[ID](ids)([]ID{id}, err) }
}

func all[ID ~string](ids *[]string) func([]ID, error) {
	return func(more []ID, err error) {
		for _, id := range more {
			if err == nil {
				*ids = append(*ids, string(id))
			}
		}
	}
}

// everyCall makes every call of a Cloud, in the order of a build, and continues after errors.
// It returns the IDs of the calls that succeeded.
func everyCall(ctx context.Context, c *Cloud) []string {
	var ids []string
	facts := bake.Facts{}
	facts.Host, _ = c.Host(ctx)
	if source, err := c.Source(ctx); err == nil {
		facts.Source = &source
	}
	_, _ = c.Publication(ctx, facts)
	one[bake.VolumeID](&ids)(c.CreateVolume(ctx, bake.VolumeSpec{Build: "b", Zone: "a", SizeGiB: 1}))
	_, _ = c.Volume(ctx, "vol-00000001")
	all[bake.VolumeID](&ids)(c.FindVolumes(ctx, "b"))
	_ = c.Attach(ctx, "vol-00000001", "i-00000001", "/dev/xvdb")
	_ = c.Detach(ctx, "vol-00000001", "i-00000001")
	_ = c.DeleteVolume(ctx, "vol-00000001")
	one[bake.SnapshotID](&ids)(c.CreateSnapshot(ctx, bake.SnapshotSpec{Build: "b", Volume: "vol-00000001"}))
	_, _ = c.Snapshot(ctx, "snap-00000001")
	all[bake.SnapshotID](&ids)(c.FindSnapshots(ctx, "vol-00000001"))
	_ = c.DeleteSnapshot(ctx, "snap-00000001")
	one[bake.ImageID](&ids)(c.Register(ctx, bake.ImageSpec{Build: "b", Name: "new", Snapshot: "snap-00000001", Source: facts.Source, SizeGiB: 1}))
	_, _ = c.Image(ctx, "ami-00000001")
	one[bake.ImageID](&ids)(c.Copy(ctx, bake.CopySpec{Build: "b", Source: "ami-00000001", SourceRegion: home, Name: "new"}))
	all[bake.ImageID](&ids)(c.FindImages(ctx, "snap-00000001"))
	all[bake.ImageID](&ids)(c.FindCopies(ctx, "ami-00000001", "new"))
	all[bake.ImageID](&ids)(c.Named(ctx, "new"))
	_ = c.Publish(ctx, bake.PublishSpec{Image: "ami-00000001", Snapshots: []bake.SnapshotID{"snap-00000001"}})
	if record, err := c.Record(ctx, "ami-00000001"); err == nil {
		one[bake.ImageID](&ids)(c.Restore(ctx, record))
	}
	_ = c.Deregister(ctx, "ami-00000001")
	return ids
}

// answering returns the same response to every request except a client's first.
func answering(status int, kind string, body []byte) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", kind)
		if path.Base(r.URL.Path) == "ReadAccounts" {
			_, _ = w.Write([]byte(account.body))
			return
		}
		if status >= 200 && status < 600 {
			w.WriteHeader(status)
		}
		_, _ = w.Write(body)
	}
}

// FuzzAnswers has the API, and the metadata service, return any response to every call. Each
// call must end, and none may return a resource without an ID.
func FuzzAnswers(f *testing.F) {
	const snapshot, mapping = `{"SnapshotId":"snap-00000001","VolumeId":"vol-00000001"}`, `{"DeviceName":"/dev/sda1","Bsu":{"SnapshotId":"snap-00000001"}}`
	for _, seed := range []string{
		"", "{}", "null", "[]", "i-00000001", `{"NextPageToken":"again"}`, `{"Errors":[{"Code":"6"}]}`, `{"Errors":[null]}`,
		`{"Volumes":[null,{"VolumeId":"vol-00000001","Tags":[{"Key":"packer-chroot-build","Value":"b"}],"LinkedVolumes":[{}]}],"Volume":{}}`,
		`{"Snapshots":[{},` + snapshot + `],"Snapshot":` + snapshot + `}`,
		`{"Images":[{},{"ImageId":"ami-00000001","ImageName":"new","AccountId":"` + me + `","RootDeviceName":"/dev/sda1","BlockDeviceMappings":[{},` + mapping + `]}],"Image":{"ImageId":"ami-00000001"}}`,
		`{"Vms":[{"VmId":"i-00000001","BlockDeviceMappings":[{}]}],"CreationDate":"9999-99-99"}`,
	} {
		for _, status := range []int{http.StatusOK, http.StatusConflict, http.StatusServiceUnavailable} {
			f.Add(status, "application/json", []byte(seed))
		}
	}
	f.Fuzz(func(t *testing.T, status int, kind string, body []byte) {
		server := httptest.NewServer(answering(status, kind, body))
		defer server.Close()
		access := Access{AccessKey: myKey, SecretKey: secret, Region: home, Endpoint: server.URL, MetadataEndpoint: server.URL}
		client, err := Dial(t.Context(), access)
		if err != nil {
			return // the type of the response is not JSON
		}
		client.retry.Clock, client.retry.WaitLimit = new(cloudtest.Clock), time.Second
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		if ids := everyCall(ctx, NewCloud(client, &Config{SourceConfig: SourceConfig{SourceOMI: "ami-00000001"}}, nil)); slices.Contains(ids, "") {
			t.Errorf("something without an id: %q", ids)
		}
		if ctx.Err() != nil {
			t.Error("the calls have no end")
		}
	})
}

// FuzzMetadata has the metadata service return any response. Only a valid ID may become a
// VM's.
func FuzzMetadata(f *testing.F) {
	for _, seed := range []string{"", "i-00000001", "i-00000001\n", "i-0000000g", "../i-00000001", "\x00"} {
		f.Add(http.StatusOK, []byte(seed))
	}
	f.Fuzz(func(t *testing.T, status int, body []byte) {
		server := httptest.NewServer(answering(status, "text/plain", body))
		defer server.Close()
		id, err := newMetadata(Access{MetadataEndpoint: server.URL}).instanceID(t.Context())
		if (err == nil) != vmID.MatchString(id) {
			t.Errorf("%q, %v", id, err)
		}
	})
}

// A falsifier falsifies responses between a build and the API, in an account that also has foreign
// resources.
type falsifier struct {
	*outscale
	*cloudtest.Falsifier
	volume, snapshot string // of another owner
}

func newFalsifier(t *testing.T) *falsifier {
	t.Helper()
	f := &falsifier{outscale: newOutscale(t, state.Instant())}
	c := f.cloud(t, Config{})
	volume, snapshot := madeSnapshot(t, c, "of-another")
	f.volume, f.snapshot = string(volume), string(snapshot)
	f.Falsifier = &cloudtest.Falsifier{Next: f.wire}
	server := httptest.NewServer(f)
	t.Cleanup(server.Close)
	f.server = server
	return f
}

// ServeHTTP implements http.Handler.
func (f *falsifier) ServeHTTP(w http.ResponseWriter, r *http.Request) { f.Falsifier.ServeHTTP(w, r) }

// unharmed checks that only resources of the build were to be removed.
func (f *falsifier) unharmed(t *testing.T) {
	t.Helper()
	id := regexp.MustCompile(`"(?:VolumeId|SnapshotId|ImageId)":"([^"]*)"`)
	for _, request := range f.Requests() {
		call, body, _ := strings.Cut(request, " ")
		if call = path.Base(call); !strings.HasPrefix(call, "Delete") && call != "UnlinkVolume" {
			continue
		}
		for _, found := range id.FindAllStringSubmatch(body, -1) {
			if slices.Contains([]string{f.volume, f.snapshot, f.source}, found[1]) || !regexp.MustCompile(`^[a-z]+-[0-9a-f]{8}$`).MatchString(found[1]) {
				t.Errorf("%s of %q", call, found[1])
			}
		}
	}
}

// TestFalseResponses has the API return false information, from the first call of another action
// on. Whatever the build does then, it requests the removal only of resources that it has created.
func TestFalseResponses(t *testing.T) {
	list := func(set, item string) [2]string {
		return [2]string{`"` + set + `":\[`, `"` + set + `":[` + item + `,`}
	}

	tests := []struct {
		name, action string
		change       [2]string
		// lost is an action that takes effect and gets no response. Responses after it are
		// falsified.
		lost, says string
	}{
		{"another volume is told of", "ReadVolumes", [2]string{`vol-[0-9a-f]+`, "THEIR-VOLUME"}, "", "volume vol-"},
		{"a new volume is another's", "ReadVolumes", [2]string{`"State":"[a-z-]+"`, `"State":"in-use"`}, "", "it is in the state in-use"},
		{"what was made has no id", "CreateVolume", [2]string{`vol-[0-9a-f]+`, "../../dev/sda"}, "", ""},
		{"the volume is on another VM", "ReadVolumes", [2]string{`i-[0-9a-f]+`, "i-99999999"}, "", `attached to "i-99999999"`},
		{"the device is another", "ReadVolumes", [2]string{`"DeviceName":"[^"]*"`, `"DeviceName":"/dev/../../etc/passwd"`}, "", "-"},
		{"another snapshot is told of", "ReadSnapshots", [2]string{`"SnapshotId":"[^"]*"`, `"SnapshotId":"THEIR-SNAPSHOT"`}, "", "snapshot snap-"},
		{"volumes without the build's tag are found", "ReadVolumes", list("Volumes", `{"VolumeId":"THEIR-VOLUME","State":"available"}`), "CreateVolume", "no volume id"},
		{"snapshots of another volume are found", "ReadSnapshots",
			list("Snapshots", `{"SnapshotId":"THEIR-SNAPSHOT","VolumeId":"THEIR-VOLUME","State":"completed"}`), "CreateSnapshot", "no snapshot id"},
		{"images of another snapshot are found", "ReadImages",
			list("Images", `{"ImageId":"THEIR-IMAGE","AccountId":"`+me+`","BlockDeviceMappings":[{"Bsu":{"SnapshotId":"THEIR-SNAPSHOT"}}]}`), "CreateImage", "image"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			f := newFalsifier(t)
			names := strings.NewReplacer("THEIR-VOLUME", f.volume, "THEIR-SNAPSHOT", f.snapshot, "THEIR-IMAGE", f.source)
			due, find := test.lost == "", regexp.MustCompile(test.change[0])
			f.Change = func(r *http.Request, _, answer []byte) []byte {
				switch call := path.Base(r.URL.Path); {
				case call == test.lost:
					due = true
					return []byte("{}")
				case due && call == test.action:
					return bytes.ReplaceAll(find.ReplaceAll(answer, []byte(names.Replace(test.change[1]))), []byte(",]"), []byte("]"))
				}
				return answer
			}
			_, err := bake.Build(t.Context(), f.cloud(t, Config{}), cloudtest.Machine(),
				bake.Plan{Build: "build-1", ImageName: "new", Waits: cloudtest.ShortWaits()}, cloudtest.Log(t.Logf))
			if (err == nil) != (test.says == "-") || err != nil && !strings.Contains(err.Error(), test.says) {
				t.Errorf("the build ended with %v, want %q", err, test.says)
			}
			f.unharmed(t)
		})
	}
}

// TestForeignIDInResponse has a creating call return the id of an existing resource that does
// not belong to the build and is as similar as possible. The build reports it, and neither tags nor
// changes it.
func TestForeignIDInResponse(t *testing.T) {
	for name, test := range map[string]struct{ action, with string }{
		"another volume":           {"CreateVolume", "THEIR-VOLUME"},
		"another image's snapshot": {"CreateSnapshot", "THEIR-SNAPSHOT"},
		"the source's snapshot":    {"CreateSnapshot", "SOURCE-SNAPSHOT"},
		"another image":            {"CreateImage", "THEIR-IMAGE"},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFalsifier(t)
			root := f.find(t, f.source).Mappings[0].Volume
			theirs, err := f.state.CreateVolume(mine, state.VolumeRequest{Zone: home + "a", SnapshotID: root.SnapshotID, SizeGiB: root.SizeGiB, Type: "gp2"})
			if err != nil {
				t.Fatal(err)
			}
			f.volume = theirs.ID
			with := strings.NewReplacer("THEIR-VOLUME", f.volume, "SOURCE-SNAPSHOT", root.SnapshotID, "THEIR-SNAPSHOT", f.snapshot, "THEIR-IMAGE", f.source).Replace(test.with)
			id := regexp.MustCompile(`"(Volume|Snapshot|Image)Id":"(?:vol|snap|ami)-[0-9a-f]+"`)
			f.Change = func(r *http.Request, _, answer []byte) []byte {
				if path.Base(r.URL.Path) != test.action {
					return answer
				}
				return id.ReplaceAllFunc(answer, func(found []byte) []byte {
					if bytes.HasPrefix(found, []byte(`"`+strings.TrimPrefix(test.action, "Create"))) {
						return []byte(`"` + strings.TrimPrefix(test.action, "Create") + `Id":"` + with + `"`)
					}
					return found
				})
			}
			tags := map[string]string{"k": "v"}
			labels := bake.Labels{VolumeTags: tags, SnapshotTags: tags, ImageTags: tags}
			before := f.things()
			_, err = bake.Build(t.Context(), f.cloud(t, Config{PublishConfig: PublishConfig{OMIAccountIDs: []string{other}}}), cloudtest.Machine(), bake.Plan{
				Build: "build-1", ImageName: "new", Waits: cloudtest.ShortWaits(),
				Labels: func(bake.Facts) (bake.Labels, error) { return labels, nil },
			}, cloudtest.Log(t.Logf))
			if err == nil || !strings.Contains(err.Error(), with) {
				t.Errorf("%s is not told of: %v", with, err)
			}
			f.unharmed(t)
			if after := f.things(); !slices.Equal(before, after) {
				t.Errorf("there were\n%q, and are\n%q", before, after)
			}
		})
	}
}

// things returns all resources with their tags.
func (f *falsifier) things() (all []string) {
	for _, v := range f.state.Volumes(mine) {
		if v.State != state.VolumeDeleting {
			all = append(all, fmt.Sprint(v.ID, v.Tags))
		}
	}
	for _, s := range f.state.Snapshots(mine) {
		all = append(all, fmt.Sprint(s.ID, s.Tags))
	}
	for _, i := range f.state.Images(mine) {
		all = append(all, fmt.Sprint(i.ID, i.Tags, i.Launch))
	}
	slices.Sort(all)
	return all
}

// TestEndlessLists has the API return new pages without end.
func TestEndlessLists(t *testing.T) {
	page := 0
	_, err := pages("ReadVolumes", func(*string) (*[]int, *string, error) {
		page++
		next := strconv.Itoa(page)
		return &[]int{page}, &next, nil
	})
	if err == nil || page != mostPages {
		t.Errorf("%v after %d pages", err, page)
	}
}
