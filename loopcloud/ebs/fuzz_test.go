package ebs_test

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/packer-chroot/packer-plugin-chroot/loopcloud/ebs"
	"github.com/packer-chroot/packer-plugin-chroot/loopcloud/state"
	"github.com/packer-chroot/packer-plugin-chroot/loopcloud/state/statetest"
	"github.com/packer-chroot/packer-plugin-chroot/testdir"
)

// FuzzStart: a body is a request or gets an error of the API.
func FuzzStart(f *testing.F) {
	for _, body := range []string{
		`{"VolumeSize":1}`, `{"VolumeSize":1,"Tags":[{"Key":"a","Value":"b"}],"Encrypted":true,"Timeout":60}`, `{"VolumeSize":1}{}`,
		`{"VolumeSize":1e30}`, `{"volumesize":1}`, `{"Unknown":1}`, `{"VolumeSize":1,"ParentSnapshotId":"snap-0"}`, `null`, ``, `[`,
	} {
		f.Add(body)
	}
	f.Fuzz(func(t *testing.T, body string) {
		req, err := ebs.DecodeStart([]byte(body))
		var refusal *ebs.Error
		switch {
		case err == nil && (req.Timeout < 0 || req.Timeout > 72*time.Hour || len(req.Description) > 255*4 || strings.ContainsAny(req.Token, " \n")):
			t.Errorf("%q is accepted as %+v", body, req)
		case err != nil && (!errors.As(err, &refusal) || refusal.Status != http.StatusBadRequest || refusal.Reason == ""):
			t.Errorf("%q is refused with %v", body, err)
		}
	})
}

// FuzzPageToken: a token is only accepted unchanged, for its list, and in time.
func FuzzPageToken(f *testing.F) {
	now := time.Date(2026, 7, 1, 12, 0, 0, 0, time.UTC)
	caller := state.Caller{Account: "111111111111", Region: "eu-west-2"}
	issue, read := ebs.Tokens(func() time.Time { return now })
	valid := issue(caller, 77, "snap-1")
	for _, token := range []string{valid, valid[1:], "A" + valid[1:], valid + "=", "", "AAAA", strings.Repeat("A", 64)} {
		f.Add(token)
	}
	f.Fuzz(func(t *testing.T, token string) {
		next, ok := read(token, caller, "snap-1")
		if same := strings.NewReplacer("\r", "", "\n", "").Replace(token) == valid; ok != same || ok && next != 77 {
			t.Errorf("%q is accepted: %t, as %d", token, ok, next)
		}
		if _, ok := read(token, caller, "snap-2"); ok {
			t.Errorf("%q is accepted for another list", token)
		}
	})
}

// FuzzRequest: every path, query and header gets a response with an error of the API or none.
func FuzzRequest(f *testing.F) {
	st, err := state.Open(state.Config{Dir: testdir.New(f), Disks: statetest.NewDisks()})
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() { _ = st.Close() })
	h := ebs.New(st, func(*http.Request, []byte, string) (state.Caller, error) {
		return state.Caller{Account: state.DefaultAccount, Region: st.DefaultRegion()}, nil
	})
	for _, r := range [][4]string{
		{"GET", "/snapshots/snap-00000000/blocks?maxResults=1&pageToken=A", "", ""}, {"GET", "/snapshots/snap-00000000/changedblocks?firstSnapshotId=snap-1", "", ""},
		{"GET", "/snapshots/snap-00000000/blocks/1?blockToken=A", "", ""}, {"PUT", "/snapshots/snap-00000000/blocks/99999999999", "524288", "AAAA"},
		{"POST", "/snapshots/completion/snap-00000000", "1", "AAAA"}, {"POST", "/snapshots", "", ""}, {"DELETE", "/snapshots//", "", ""}, {"GET", "/snapshots?%zz", "", ""},
	} {
		f.Add(r[0], r[1], r[2], r[3])
	}
	f.Fuzz(func(t *testing.T, method, target, number, sum string) {
		r, err := http.NewRequestWithContext(t.Context(), method, "http://localhost"+target, strings.NewReader("body"))
		if err != nil || !strings.HasPrefix(r.URL.Path, ebs.Path) {
			return
		}
		r.Header = http.Header{
			"X-Amz-Data-Length": {number}, "X-Amz-Changedblockscount": {number}, "X-Amz-Progress": {number}, "X-Amz-Checksum": {sum},
			"X-Amz-Checksum-Algorithm": {"SHA256"}, "X-Amz-Checksum-Aggregation-Method": {"LINEAR"},
		}
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		if code := w.Header().Get("X-Amzn-Errortype"); w.Code >= 400 && code == "" || w.Code < 400 && code != "" {
			t.Errorf("%s %s: %d %q", method, target, w.Code, code)
		}
	})
}
