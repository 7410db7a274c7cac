package report

import (
	"context"
	"image"
	"image/color"
	"image/png"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/packer-chroot/packer-plugin-chroot/testdir"
)

// browserEnv names the program of a Chromium. make browser sets it.
const browserEnv = "BROWSER_PROGRAM"

// browse opens a page in the browser without a window, and returns its output.
func browse(t *testing.T, page string, args ...string) string {
	t.Helper()
	ctx, stop := context.WithTimeout(t.Context(), 5*time.Minute)
	defer stop()
	args = append([]string{
		"--headless=new", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--window-size=1280,3000", "--user-data-dir=" + testdir.New(t),
		"--host-resolver-rules=MAP * ~NOTFOUND", "--enable-logging=stderr",
	}, args...)
	cmd := exec.CommandContext(ctx, os.Getenv(browserEnv), append(args, "file://"+page)...)
	var log strings.Builder
	cmd.Stderr = &log
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%v\n%s", err, &log)
	}
	for line := range strings.Lines(log.String()) {
		if strings.Contains(line, ":CONSOLE") {
			t.Errorf("the browser reports %s", line)
		}
	}
	return string(out)
}

// TestPageInABrowser opens the page of a report in a browser: a screenshot must show the bars in the colors of
// their subjects, and the document must have the IDs, as text.
func TestPageInABrowser(t *testing.T) {
	if os.Getenv(browserEnv) == "" {
		t.Skip("make browser runs it")
	}
	dir := testdir.New(t)
	page, shot := filepath.Join(dir, "report.html"), filepath.Join(dir, "shot.png")
	if err := recorded(t, errNo).Write(page); err != nil {
		t.Fatal(err)
	}
	browse(t, page, "--screenshot="+shot)
	f, err := os.Open(shot)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	picture, err := png.Decode(f)
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]color.RGBA{
		"a step":                {0x57, 0x60, 0x6a, 255},
		"a wait":                {0x09, 0x69, 0xda, 255},
		"provisioners":          {0x1a, 0x7f, 0x37, 255},
		"a call":                {0x82, 0x50, 0xdf, 255},
		"a bar that has failed": {0xcf, 0x22, 0x2e, 255},
	} {
		if width, height := extent(picture, c); width < 20 || height < laneHeight-6 {
			t.Errorf("the bars of %s are %d pixels wide and %d high", name, width, height)
		}
	}
	document := browse(t, page, "--dump-dom")
	for _, id := range []string{"ami-2", "snap-2", "volume vol-1", "req-1", "EC2 CreateVolume", "libc6", "take care", "ending process 7 (sshd)", "mount of /dev/xvdf1"} {
		if !strings.Contains(document, id) {
			t.Errorf("the document does not have %q", id)
		}
	}
}

// extent returns the length of the longest row and of the longest column of pixels of a color.
func extent(of image.Image, c color.RGBA) (width, height int) {
	bounds := of.Bounds()
	is := func(x, y int) bool {
		r, g, b, _ := of.At(x, y).RGBA()
		return uint8(r>>8) == c.R && uint8(g>>8) == c.G && uint8(b>>8) == c.B //nolint:gosec // it is shifted
	}
	longest := func(from, to int, at func(int) bool) (longest int) {
		for i, run := from, 0; i < to; i++ {
			if run++; !at(i) {
				run = 0
			}
			longest = max(longest, run)
		}
		return longest
	}
	for y := bounds.Min.Y; y < bounds.Max.Y; y++ {
		width = max(width, longest(bounds.Min.X, bounds.Max.X, func(x int) bool { return is(x, y) }))
	}
	for x := bounds.Min.X; x < bounds.Max.X; x++ {
		height = max(height, longest(bounds.Min.Y, bounds.Max.Y, func(y int) bool { return is(x, y) }))
	}
	return width, height
}
