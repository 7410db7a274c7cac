package build

import (
	"bufio"
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"

	"github.com/packer-chroot/packer-plugin-chroot/acceptance/harness"
)

// BenchmarkBuild measures the wall time of a basic build of an image of 64 MiB on the instant profile. The same
// run measures Packer's share, with its null builder and nothing to provision.
func BenchmarkBuild(b *testing.B) {
	for _, f := range harness.Flavors {
		b.Run(f.Name, func(b *testing.B) {
			box := harness.New(b)
			root := filepath.Join(box.Dir, "root")
			box.Sh("cp -a " + harness.Programs.Root + " " + root + "; head -c 64M /dev/urandom > " + root + "/data")
			source := box.Loopcloud("image", "import", "--endpoint", box.Endpoint, "--name", "64 MiB", root)
			template := box.Template(f.Basic(map[string]any{"source_PREFIX": source, "PREFIX_name": "bench {{timestamp}} {{uuid}}"}), harness.Shell("true"))
			null := box.Write("null.json", `{"builders": [{"type": "null", "communicator": "none"}]}`)
			var packers time.Duration
			for b.Loop() {
				box.Build(template)
				b.StopTimer()
				start := time.Now()
				if out, err := box.Packer("build", null); err != nil {
					b.Fatalf("%v\n%s", err, out)
				}
				packers += time.Since(start)
				b.StartTimer()
			}
			whole := b.Elapsed()
			b.ReportMetric(float64(whole.Milliseconds())/float64(b.N), "ms/build")
			b.ReportMetric(float64(packers.Milliseconds())/float64(b.N), "ms/packer-alone")
			b.ReportMetric(100*(1-float64(packers)/float64(whole)), "%ours")
		})
	}
}

// BenchmarkLoopcloudStart measures the time from exec to the response to a request.
func BenchmarkLoopcloudStart(b *testing.B) {
	box := harness.New(b)
	for b.Loop() {
		b.StopTimer()
		box.Stop()
		b.StartTimer()
		box.Serve()
		box.Control("GET", "health", nil, nil)
	}
	b.ReportMetric(float64(b.Elapsed().Milliseconds())/float64(b.N), "ms/start")
}

// BenchmarkSnapshot measures a snapshot of an 8 GiB volume that holds 200 MB, and a plain copy of those 200 MB.
func BenchmarkSnapshot(b *testing.B) {
	box := harness.New(b)
	volume := box.CreateVolume(8, "")
	node := box.Attach(volume)
	data := filepath.Join(box.Dir, "data")
	box.Sh("head -c 200000000 /dev/urandom > " + data + "; dd if=" + data + " of=" + node + " bs=1M seek=100 conv=fsync status=none")
	var copied time.Duration
	for b.Loop() {
		snap, err := box.Client().CreateSnapshot(context.Background(), &ec2.CreateSnapshotInput{VolumeId: aws.String(volume)})
		box.Must(err)
		b.StopTimer()
		_, err = box.Client().DeleteSnapshot(context.Background(), &ec2.DeleteSnapshotInput{SnapshotId: snap.SnapshotId})
		box.Must(err)
		start := time.Now()
		box.Sh("cp " + data + " " + data + ".copy")
		copied += time.Since(start)
		box.Must(os.Remove(data + ".copy"))
		b.StartTimer()
	}
	b.ReportMetric(float64(b.Elapsed().Milliseconds())/float64(b.N), "ms/snapshot")
	b.ReportMetric(float64(b.Elapsed())/float64(copied), "×cp")
	b.StopTimer()
	box.Detach(volume)
}

// BenchmarkDescribe measures a plugin's describe command, which Packer runs at each start.
func BenchmarkDescribe(b *testing.B) {
	harness.NeedRoot(b)
	for _, f := range harness.Flavors {
		b.Run(f.Name, func(b *testing.B) {
			plugin := filepath.Join(filepath.Dir(harness.Programs.Loopcloud), "packer-plugin-"+f.Name)
			for b.Loop() {
				if err := exec.Command(plugin, "describe").Run(); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(b.Elapsed().Milliseconds())/float64(b.N), "ms/describe")
		})
	}
}

// BenchmarkLeaving measures the time from the end of provisioning to a flushed disk. Provisioners leave no process, ten
// daemons, or ten daemons that ignore SIGTERM.
func BenchmarkLeaving(b *testing.B) {
	const apart = " </dev/null >/dev/null 2>&1 &"
	tens := "for i in 0 1 2 3 4 5 6 7 8 9; do "
	for _, leaves := range []struct{ name, line string }{
		{"nothing", "true"},
		{"ten-daemons", tens + "setsid sleep 1000" + apart + " done"},
		{"ten-deaf-daemons", tens + "setsid sh -c 'trap \"\" TERM; while :; do sleep 1000; done'" + apart + " done"},
	} {
		b.Run(leaves.name, func(b *testing.B) {
			box := harness.New(b)
			template := box.Template(harness.Flavors[0].Basic(map[string]any{"PREFIX_name": "leaving {{uuid}}"}), harness.Shell(leaves.line, "sleep 0.2"))
			var took time.Duration
			for b.Loop() {
				took += leaving(box, template)
			}
			b.ReportMetric(float64(took.Milliseconds())/float64(b.N), "ms/leave")
		})
	}
}

// leaving builds and returns the time between the unmount step and the snapshot step.
func leaving(b *harness.Box, template string) time.Duration {
	b.Helper()
	cmd := b.Command(context.Background(), "build", "-color=false", template)
	out, err := cmd.StdoutPipe()
	b.Must(err)
	b.Must(cmd.Start())
	var from, to time.Time
	for lines := bufio.NewScanner(out); lines.Scan(); {
		switch line := lines.Text(); {
		case strings.Contains(line, ": Unmounting /"):
			from = time.Now()
		case strings.Contains(line, ": Taking a snapshot"):
			to = time.Now()
		}
	}
	b.Must(cmd.Wait())
	if from.IsZero() || to.IsZero() {
		b.Fatal("the steps are not told")
	}
	return to.Sub(from)
}

// BenchmarkKilled measures the time from SIGKILL of the plugin until its keeper has ended the processes in the
// chroot, unmounted it, and removed its directory. One of the processes ignores SIGTERM.
func BenchmarkKilled(b *testing.B) {
	box := harness.New(b)
	var took, longest time.Duration
	for b.Loop() {
		u := box.Begin(harness.Flavors[0], harness.Shell("(setsid sleep 1000 &) ; trap '' HUP INT TERM; sleep 1000 & sleep 1000"))
		u.Until(harness.Deadline, "at work", func() bool { return u.Inside() >= 4 })
		plugin := u.Process("packer-plugin-"+harness.Flavors[0].Name, "start")
		if plugin == 0 {
			b.Fatalf("the plugin is not found:\n%s", u.Out)
		}
		begun := time.Now()
		box.Must(syscall.Kill(plugin, syscall.SIGKILL))
		u.Until(harness.Deadline, "left", u.Left)
		took, longest = took+time.Since(begun), max(longest, time.Since(begun))
		_ = u.Cmd.Wait() // Packer tells that its plugin was killed
		box.EmptyTmp()
		if _, status := box.Reap(harness.Flavors[0]); status != 0 {
			b.Fatalf("reap ended with %d", status)
		}
	}
	b.ReportMetric(float64(took.Milliseconds())/float64(b.N), "ms/clean")
	b.ReportMetric(float64(longest.Milliseconds()), "ms/longest")
}
