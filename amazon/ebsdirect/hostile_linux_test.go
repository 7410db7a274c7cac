package ebsdirect_test

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"github.com/packer-chroot/packer-plugin-chroot/amazon/ebsdirect"
	"github.com/packer-chroot/packer-plugin-chroot/bake/cloudtest"
	"github.com/packer-chroot/packer-plugin-chroot/lazydisk/block"
)

// serving returns a client of a server that responds to each request with the next body, and then with the last.
func serving(t *testing.T, bodies ...string) *ebsdirect.Client {
	t.Helper()
	n := 0
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		body := bodies[min(n, len(bodies)-1)]
		n++
		w.Header().Set("Content-Type", "application/json")
		if r.Method == http.MethodPost && r.URL.Path == "/snapshots" {
			w.WriteHeader(http.StatusCreated)
		}
		fmt.Fprint(w, body)
	}))
	t.Cleanup(server.Close)
	return clientOf(server.URL, "AKIAMINE", new(cloudtest.Clock))
}

// page returns a page of a list.
func page(blocks, token string) string {
	return fmt.Sprintf(`{"BlockSize":524288,"VolumeSize":1,"ExpiryTime":2e9,"Blocks":[%s],"NextToken":%q}`, blocks, token)
}

// item returns a block in a list.
func item(index int) string {
	return fmt.Sprintf(`{"BlockIndex":%d,"BlockToken":"t"}`, index)
}

// TestEmptyPages: a page without blocks that is not the last is passed over.
func TestEmptyPages(t *testing.T) {
	s := serving(t, page("", "a"), page("", "b"), page(item(3)+","+item(4), "c")).Source("snap-1")
	present, next, err := s.List(t.Context(), 0)
	if err != nil || next != 5 || !slices.Equal(present, []block.Range{{First: 3, Count: 2}}) {
		t.Errorf("the list is %v, next %d, %v", present, next, err)
	}
}

// TestUnexpectedLists: a list that breaks the rules of the API is an error.
func TestUnexpectedLists(t *testing.T) {
	for name, body := range map[string]string{
		"a repeated page token":  page("", "a"),
		"descending":             page(item(4)+","+item(3), ""),
		"a block twice":          page(item(4)+","+item(4), ""),
		"before the first":       page(item(1), ""),
		"no index":               page(`{"BlockToken":"t"}`, ""),
		"no token":               page(`{"BlockIndex":3}`, ""),
		"blocks of another size": strings.Replace(page(item(3), ""), "524288", "4096", 1),
		"no JSON":                "<html>",
		"half of it":             page(item(3), "")[:40],
	} {
		_, _, err := serving(t, body).Source("snap-1").List(t.Context(), 2)
		if err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

// TestUnexpectedSnapshots: a started snapshot that is not the requested one is an error.
func TestUnexpectedSnapshots(t *testing.T) {
	const good = `{"SnapshotId":"snap-1","BlockSize":524288,"VolumeSize":8,"ParentSnapshotId":"snap-0","Status":"pending"}`
	spec := ebsdirect.Spec{Token: "t", SizeGiB: 8, Parent: "snap-0"}
	if _, err := serving(t, good).Start(t.Context(), spec); err != nil {
		t.Errorf("as requested: %v", err)
	}
	for name, change := range map[string][2]string{
		"no ID":          {"snap-1", ""},
		"another size":   {`:8`, `:9`},
		"small blocks":   {"524288", "4096"},
		"another parent": {"snap-0", "snap-2"},
		"no parent":      {"snap-0", ""},
	} {
		if _, err := serving(t, strings.Replace(good, change[0], change[1], 1)).Start(t.Context(), spec); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

// FuzzDecodeSum decodes checksums.
func FuzzDecodeSum(f *testing.F) {
	f.Add("47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=", "SHA256")
	f.Add("47DEQpj8HBSa", "SHA256")
	f.Add("47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=", "MD5")
	f.Add("", "")
	f.Fuzz(func(t *testing.T, text, algorithm string) {
		sum, err := ebsdirect.DecodeSum(&text, ebsdirect.Algorithm(algorithm))
		if err == nil && (algorithm != "SHA256" || len(text) < 4*len(sum)/3) {
			t.Errorf("%s %q is decoded as %x", algorithm, text, sum)
		}
		if err != nil && errors.Is(err, block.ErrPermanent) {
			t.Errorf("%v is permanent", err)
		}
	})
}
