package build

import (
	"bufio"
	"cmp"
	"context"
	"fmt"
	"os"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/packer-chroot/packer-plugin-chroot/acceptance/harness"
	"github.com/packer-chroot/packer-plugin-chroot/loopcloud/state"
)

// directPath returns the time that a profile's cloud takes for a direct build, without that for its blocks: the snapshot is
// completed, and then the image.
func directPath(t state.Timing) time.Duration { return t.Direct.Complete + t.ImageCreate }

// BenchmarkDirect measures builds of one template with the durations of AWS: by the public plugin with a volume, and by
// amazon-chroot with a volume, without one and an empty cache, and without one and the blocks in the cache. The figures are
// medians. The first build with a volume, and the first one without, know nothing about the durations of waits.
func BenchmarkDirect(b *testing.B) {
	peer, box := newPeerBox(b, "--profile", "aws"), harness.New(b, "--profile", "aws")
	attached := forPeer(box, nil)
	direct := harness.Direct.Basic(harness.O{"region": harness.Region})
	n := 0
	took := func(on *harness.Box, options harness.O) int {
		b.Helper()
		n++
		options["ami_name"] = fmt.Sprint("measured ", n)
		template := on.Template(options, harness.Shell("echo measured > /root/file"))
		begun := time.Now()
		on.Build(template)
		return int(time.Since(begun).Milliseconds())
	}
	var public, volume, cold, warm []int
	for b.Loop() {
		public = append(public, took(peer, forPeer(peer, nil)))
		volume = append(volume, took(box, attached))
		box.ForgetBlocks()
		cold = append(cold, took(box, direct))
		warm = append(warm, took(box, direct))
	}
	b.Logf("ms of the public plugin: %v; with a volume: %v; without one, cold: %v, warm: %v", public, volume, cold, warm)
	path := pacedClouds[0].path().Milliseconds()
	for unit, figure := range map[string]float64{
		"ms-public-plugin": median(public), "ms-attached": median(volume), "ms-direct-cold": median(cold), "ms-direct-warm": median(warm),
		"ms-path-attached": float64(path), "ms-above-path-attached": median(volume) - float64(path),
		"ms-path-direct": float64(directPath(state.AWS(1)).Milliseconds()), "×public-plugin-direct-warm": median(warm) / median(public),
	} {
		b.ReportMetric(figure, unit)
	}
}

// BenchmarkUpload measures the upload of 1 GiB of changed blocks, with the processor time that loopcloud and the whole
// machine use meanwhile. UPLOAD_MIB is another size, for trials.
func BenchmarkUpload(b *testing.B) {
	mib, err := strconv.Atoi(cmp.Or(os.Getenv("UPLOAD_MIB"), "1024"))
	harness.Must(b, err)
	box := harness.New(b, "--hosts", "0")
	// garbage is collected as in a user's build
	box.Env = slices.DeleteFunc(box.Env, func(e string) bool { return strings.HasPrefix(e, "GOGC=") || strings.HasPrefix(e, "GOMEMLIMIT=") })
	template := box.Template(harness.Direct.Basic(harness.O{"root_volume_size": mib/1024 + 2, "grow_root_filesystem": true}),
		harness.Shell(fmt.Sprintf("dd if=/dev/urandom of=/root/data bs=1048576 count=%d", mib)))
	var all []upload
	for b.Loop() {
		all = append(all, uploading(box, template))
		box.Remove(box.Made().ID)
	}
	b.Logf("%+v", all)
	slices.SortFunc(all, func(x, y upload) int { return cmp.Compare(x.speed, y.speed) })
	middle, perGiB := all[len(all)/2], 1024/float64(mib)
	b.ReportMetric(middle.speed, "MB/s-uploaded")
	b.ReportMetric(100*middle.share, "%of-all-cores")
	b.ReportMetric(middle.machine*perGiB, "cpu-s/GiB")
	b.ReportMetric(middle.loopcloud*perGiB, "cpu-s/GiB-of-loopcloud")
}

// upload holds the figures of an upload.
type upload struct {
	// speed is in MB/s.
	speed float64
	// machine and loopcloud are processor times in seconds, and share is the part of the machine's that was used.
	machine, loopcloud, share float64
}

// uploadTime matches the duration of an upload in the output of a build.
var uploadTime = regexp.MustCompile(`uploaded .* written blocks\) in (\S+)`)

// uploading builds and measures the upload.
func uploading(b *harness.Box, template string) (u upload) {
	b.Helper()
	cmd := b.Command(context.Background(), "build", "-color=false", template)
	out, err := cmd.StdoutPipe()
	b.Must(err)
	b.Must(cmd.Start())
	var output strings.Builder
	for lines := bufio.NewScanner(out); lines.Scan(); {
		output.WriteString(lines.Text() + "\n")
		switch {
		case strings.Contains(lines.Text(), ": Uploading the changed blocks"):
			u = spent(b)
		case uploadTime.MatchString(lines.Text()):
			u = spent(b).minus(u)
		}
	}
	if err := cmd.Wait(); err != nil || !uploadTime.MatchString(output.String()) {
		b.Fatalf("%v, or the upload is not reported:\n%s", err, &output)
	}
	took, err := time.ParseDuration(uploadTime.FindStringSubmatch(output.String())[1])
	b.Must(err)
	u.speed = trafficOf(b.TB, output.String()).uploaded * (1 << 20) / 1e6 / took.Seconds()
	u.share = u.machine / (took.Seconds() * float64(runtime.NumCPU()))
	return u
}

// spent returns the processor times since the start of the machine and of loopcloud.
func spent(b *harness.Box) (u upload) {
	b.Helper()
	const ticks = 100 // a second, of every Linux that has /proc
	var busy [7]float64
	_, err := fmt.Sscan(strings.TrimPrefix(harness.Read("/proc/stat"), "cpu "), &busy[0], &busy[1], &busy[2], &busy[3], &busy[4], &busy[5], &busy[6])
	b.Must(err)
	const idle, waiting = 3, 4
	for i, n := range busy {
		if i != idle && i != waiting {
			u.machine += n / ticks
		}
	}
	_, fields, _ := strings.Cut(harness.Read(fmt.Sprintf("/proc/%d/stat", b.Cmd.Process.Pid)), ") ")
	var user, system float64
	own := strings.Fields(fields)
	_, err = fmt.Sscan(own[11]+" "+own[12], &user, &system)
	b.Must(err)
	u.loopcloud = (user + system) / ticks
	return u
}

// minus returns the processor times between two moments.
func (u upload) minus(earlier upload) upload {
	u.machine -= earlier.machine
	u.loopcloud -= earlier.loopcloud
	return u
}
