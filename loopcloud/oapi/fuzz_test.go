package oapi_test

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/packer-chroot/packer-plugin-chroot/loopcloud/oapi"
	"github.com/packer-chroot/packer-plugin-chroot/loopcloud/state"
	"github.com/packer-chroot/packer-plugin-chroot/loopcloud/state/statetest"
	"github.com/packer-chroot/packer-plugin-chroot/testdir"
)

// FuzzAnyRequest: every sequence of calls gets JSON responses, none of which is an internal
// error. A line is a call's name and its body.
func FuzzAnyRequest(f *testing.F) {
	for _, seed := range []string{
		`CreateVolume {"SubregionName":"eu-west-2a","Size":1,"ClientToken":"t"}` + "\n" + `ReadVolumes {"Filters":{"VolumeSizes":[1]}}`,
		`CreateVolume {"SubregionName":"eu-west-2a","Size":4,"VolumeType":"io1","Iops":9223372036854775807}`,
		`CreateImage {"ImageName":"x","RootDeviceName":"/dev/sda1","BlockDeviceMappings":[{"DeviceName":"/dev/sda1","Bsu":{"SnapshotId":"snap-00000001"}}]}`,
		`CreateSnapshot {"VolumeId":"vol-00000001"}` + "\n" + `ReadSnapshots {"ResultsPerPage":1,"NextPageToken":"x"}`,
		`LinkVolume {"VolumeId":"vol-00000001","VmId":"i-00000001","DeviceName":"/dev/xvdb"}`,
		`UnlinkVolume {"VolumeId":"vol-00000001","ForceUnlink":true}` + "\n" + `DeleteVolume {"VolumeId":"vol-00000001"}`,
		`CreateTags {"ResourceIds":["vol-00000001"],"Tags":[{"Key":"k","Value":"v"}]}` + "\n" + `ReadTags {}`,
		`ReadVms {}` + "\n" + `ReadSubregions null` + "\n" + `ReadRegions []`,
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, calls string) {
		st, err := state.Open(state.Config{
			Dir: testdir.New(t), Disks: statetest.NewDisks(), NewID: statetest.CountingIDs(),
			Clock: statetest.NewClock(time.Date(2026, 7, 1, 12, 0, 0, 0, time.UTC)).Now,
		})
		if err != nil {
			t.Fatal(err)
		}
		defer st.Close()
		h := oapi.New(st, func(*http.Request, []byte, string) (state.Caller, error) {
			return state.Caller{Account: state.DefaultAccount, Region: home}, nil
		})
		for line := range strings.SplitSeq(calls, "\n") {
			name, body, _ := strings.Cut(line, " ")
			r := httptest.NewRequest(http.MethodPost, "/", strings.NewReader(body))
			r.URL.Path = "/api/v1/" + name
			w := httptest.NewRecorder()
			h.ServeHTTP(w, r)
			if w.Code >= 500 || !json.Valid(w.Body.Bytes()) {
				t.Errorf("%q: %d %s", line, w.Code, w.Body)
			}
		}
	})
}
