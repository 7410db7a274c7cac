package kills

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/packer-chroot/packer-plugin-chroot/acceptance/harness"
	"github.com/packer-chroot/packer-plugin-chroot/polling"
)

// leftovers lists everything that the builds have left on this machine.
func leftovers(b *harness.Box) []string {
	var left []string
	for _, p := range harness.ProcessesWith(b.Marker) {
		if !strings.HasPrefix(p, harness.Programs.Loopcloud+" ") {
			left = append(left, "process "+p)
		}
	}
	for _, line := range strings.Split(harness.Read("/proc/self/mountinfo"), "\n") {
		if strings.Contains(line, b.Dir) {
			left = append(left, "mount "+line)
		}
	}
	for _, loop := range harness.LoopsOf(b.Store) {
		left = append(left, "loop device "+loop)
	}
	for _, dir := range b.KeeperDirs() {
		left = append(left, "directory "+dir)
	}
	for _, path := range b.Reservations.Left() {
		left = append(left, "file "+path)
	}
	for _, dir := range []string{"lock", "state", "mnt"} {
		left = append(left, filesBelow(filepath.Join(b.Dir, dir))...)
	}
	return left
}

// groupsOf lists the cgroups that a keeper has created for commands. Its own cgroup is that of this process.
func groupsOf(keeper int) (dirs []string) {
	_, own, _ := strings.Cut(harness.Read("/proc/self/cgroup"), "0::")
	own, _, _ = strings.Cut(own, "\n")
	for line := range strings.Lines(harness.Read("/proc/self/mountinfo")) {
		if f := strings.Fields(line); strings.Contains(line, " - cgroup2 ") {
			found, _ := filepath.Glob(filepath.Join(f[4], own, fmt.Sprintf("packer-chroot-%d-*", keeper)))
			dirs = append(dirs, found...)
		}
	}
	return dirs
}

// filesBelow are the files below a directory of journals or reservations, except the durations of waits. Of mounts, no
// directory may be left either.
func filesBelow(dir string) (files []string) {
	_ = filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err == nil && d.Name() != polling.FileName && (!d.IsDir() || filepath.Base(dir) == "mnt") {
			files = append(files, "file "+path)
		}
		return nil
	})
	return files
}
