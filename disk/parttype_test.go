package disk

import (
	"maps"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// TestDocumentedNotRoots checks that the documentation of mount_partition lists every type of
// partition that is never a root, and no other.
func TestDocumentedNotRoots(t *testing.T) {
	page, err := os.ReadFile("../docs-partials/builder/Config-not-required.mdx")
	if err != nil {
		t.Fatal(err)
	}
	text := strings.Join(strings.Fields(string(page)), " ")
	list := regexp.MustCompile(`The first partition is not used if its type is ([^,.]+(?:, [^,.]+)* or [^,.]+), if`).FindStringSubmatch(text)
	if list == nil {
		t.Fatal("the documentation of mount_partition has no list of types")
	}
	shown := regexp.MustCompile(`, | or `).Split(list[1], -1)
	slices.Sort(shown)
	want := slices.Compact(slices.Sorted(maps.Values(notRoots)))
	if !slices.Equal(shown, want) {
		t.Errorf("documented are %q, and not %q", shown, want)
	}
}
