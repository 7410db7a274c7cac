package harness

import (
	"crypto/sha256"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"testing"
)

// PeerPlugins is a PACKER_PLUGIN_PATH with the public plugin, put where packer init
// would have put it: Packer installs a release from a path only if it is a dev
// version.
func PeerPlugins(t testing.TB, plugin string) string {
	t.Helper()
	content, err := os.ReadFile(plugin)
	if err != nil {
		t.Fatal(err)
	}
	root := filepath.Join(ShortDir(t), "plugins")
	path := filepath.Join(root, "github.com/hashicorp/amazon", fmt.Sprintf("packer-plugin-amazon_v1.2.1_x5.0_%s_%s", runtime.GOOS, runtime.GOARCH))
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, content, 0o755); err != nil { //nolint:gosec // it is run
		t.Fatal(err)
	}
	if err := os.WriteFile(path+"_SHA256SUM", fmt.Appendf(nil, "%x", sha256.Sum256(content)), 0o600); err != nil {
		t.Fatal(err)
	}
	return root
}
