package disk

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestCalled checks that a link under the requested name is used as the disk's name if it
// leads to the disk, even if udev creates it a moment after the node.
func TestCalled(t *testing.T) {
	h := newFakeHost(t)
	h.run = filepath.Join(filepath.Dir(h.dev), "run")
	h.mkdir(filepath.Join(h.run, "udev"))
	h.node("nvme1n1")
	h.node("nvme2n1")
	node := filepath.Join(h.dev, "nvme1n1")
	for name, to := range map[string]string{"sdf": "nvme1n1", "sdg": "nvme2n1", "sdh": "nowhere", "chain": "sdf"} {
		if err := os.Symlink(to, filepath.Join(h.dev, name)); err != nil {
			t.Fatal(err)
		}
	}
	for requested, want := range map[string]string{
		"sdf": "sdf", "chain": "chain", "sdg": "nvme1n1", "sdh": "nvme1n1", "none": "nvme1n1", "nvme1n1": "nvme1n1",
	} {
		if got := h.called(t.Context(), filepath.Join(h.dev, requested), node); got != filepath.Join(h.dev, want) {
			t.Errorf("%s is called %s, and not %s", requested, got, want)
		}
	}
	h.called(t.Context(), "", node)

	// while udev is at work, its link is waited for
	for _, file := range []string{udevControl, udevQueue} {
		if err := os.WriteFile(filepath.Join(h.run, file), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	late := filepath.Join(h.dev, "late")
	go func() {
		time.Sleep(2 * linkGrace)
		_ = os.Symlink("nvme1n1", late)
	}()
	if got := h.called(t.Context(), late, node); got != late {
		t.Errorf("a late link is not waited for: %s", got)
	}
}

func TestCheckName(t *testing.T) {
	h := newFakeHost(t)
	h.node("xvdf")
	for name, to := range map[string]string{"sdf": "xvdf", "sdg": "nowhere"} {
		if err := os.Symlink(to, filepath.Join(h.dev, name)); err != nil {
			t.Fatal(err)
		}
	}
	for name, want := range map[string]string{
		"xvdf": "has a device of that name", "sdf": "is a link to xvdf", "sdg": "is a link to nowhere, which does not exist", "sdh": "",
	} {
		err := CheckName(filepath.Join(h.dev, name))
		if (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, and not %q", name, err, want)
		}
	}
}
