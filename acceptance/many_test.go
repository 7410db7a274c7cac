package acceptance

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
)

// many is how many builds run at once.
const many = 16

// marked is a builder and its provisioner; what the image holds says whose it is, and
// whose disk the provisioner was in.
func marked(f flavor, dir, mark string) (builder, provisioner map[string]any) {
	builder = f.basic(o{"PREFIX_name": mark, "mount_path": filepath.Join(dir, "mnt", "{{.Device}}")})
	builder["name"] = mark
	provisioner = shell("test ! -e /root/mark", "echo "+mark+" > /root/mark", "sleep 0.3", "test \"$(cat /root/mark)\" = "+mark, "echo "+mark+" >> /root/mark")
	provisioner["only"] = []string{mark}
	return builder, provisioner
}

// each is the name of a build, and its flavor.
func each(n int) (f flavor, mark string) {
	f = flavors[n%len(flavors)]
	return f, fmt.Sprintf("mark-%d", n)
}

// allMarked checks that there are that many images, each with the mark of its name and
// no other's, and removes them.
func (b *box) allMarked(n int) {
	b.t.Helper()
	found := 0
	for _, img := range b.images() {
		if !strings.HasPrefix(img.Name, "mark-") {
			continue
		}
		found++
		disk := b.disk(img.ID)
		if got, want := b.content(disk, "/root/mark"), strings.Repeat(img.Name+"\n", 2); got != want {
			b.t.Errorf("image %s holds %q", img.Name, got)
		}
		b.must(os.Remove(disk))
		b.remove(img.ID)
	}
	if found != n {
		b.t.Errorf("%d images are made, not %d", found, n)
	}
}

// interfere attaches volumes under the names that builds are about to ask for, and
// detaches them, until it is stopped. It answers how often it got one.
func (b *box) interfere(volume string, stop <-chan struct{}) (taken int) {
	ctx, c := context.Background(), b.client()
	host, err := c.DescribeInstances(ctx, &ec2.DescribeInstancesInput{})
	if err != nil {
		return 0
	}
	instance := host.Reservations[0].Instances[0].InstanceId
	for i := 0; ; i++ {
		select {
		case <-stop:
			return taken
		case <-time.After(30 * time.Millisecond):
		}
		_, err := c.AttachVolume(ctx, &ec2.AttachVolumeInput{VolumeId: &volume, InstanceId: instance, Device: aws.String("/dev/sd" + string(rune('b'+i%15)))})
		if err != nil {
			continue
		}
		taken++
		time.Sleep(20 * time.Millisecond)
		_, _ = c.DetachVolume(ctx, &ec2.DetachVolumeInput{VolumeId: &volume})
	}
}

// TestSixteenProcesses has sixteen Packers build at once, with both builders, while
// somebody else attaches volumes under the names that come next.
func TestSixteenProcesses(t *testing.T) {
	needRoot(t)
	b := newBox(t)
	before := b.inventory()
	volume := b.volume(1, "")
	stop, taken := make(chan struct{}), make(chan int, 1)
	go func() { taken <- b.interfere(volume, stop) }()
	var work sync.WaitGroup
	for n := range many {
		f, mark := each(n)
		builder, provisioner := marked(f, b.dir, mark)
		delete(provisioner, "only")
		content, err := json.Marshal(map[string]any{"builders": []any{builder}, "provisioners": []any{provisioner}})
		b.must(err)
		template := b.write(mark+".json", string(content))
		work.Go(func() {
			if out, err := b.packer("build", "-color=false", template); err != nil {
				t.Errorf("%s: %v\n%s", mark, err, out)
			}
		})
	}
	work.Wait()
	close(stop)
	if got := <-taken; got == 0 {
		t.Error("nobody interfered")
	}
	_, err := b.client().DeleteVolume(context.Background(), &ec2.DeleteVolumeInput{VolumeId: &volume})
	b.must(err)
	b.clean()
	b.allMarked(many)
	b.unchanged(before)
}

// TestSixteenBuilds has one Packer make sixteen builds at once.
func TestSixteenBuilds(t *testing.T) {
	needRoot(t)
	b := newBox(t)
	before := b.inventory()
	var builders, provisioners []any
	for n := range many {
		f, mark := each(n)
		builder, provisioner := marked(f, b.dir, mark)
		builders, provisioners = append(builders, builder), append(provisioners, provisioner)
	}
	content, err := json.Marshal(map[string]any{"builders": builders, "provisioners": provisioners})
	b.must(err)
	b.build(b.write("sixteen.json", string(content)))
	b.allMarked(many)
	b.unchanged(before)
}

// TestThreeHosts: builds on three hosts of one account at once, which have nothing in
// common but the account; and who cleans up on one does not touch another's.
func TestThreeHosts(t *testing.T) {
	both(t, func(t *testing.T, f flavor) {
		b := newBox(t, "--hosts", "3")
		before := b.inventory()
		hosts := make([]*box, 3)
		for n := range hosts {
			hosts[n] = b.onHostNumber(n + 1)
		}
		var work sync.WaitGroup
		for n, host := range hosts {
			mark := fmt.Sprintf("mark-%d", n)
			builder, provisioner := marked(f, host.dir, mark)
			delete(provisioner, "only")
			template := host.template(builder, provisioner)
			work.Go(func() {
				if out, err := host.packer("build", "-color=false", template); err != nil {
					t.Errorf("host %d: %v\n%s", n+1, err, out)
				}
			})
		}
		work.Wait()
		b.allMarked(len(hosts))
		b.unchanged(before)

		hosts[0].killAt(f, provisioning, everybody)
		left := b.inventory()
		if all, status := hosts[1].reap(f); status != 0 || len(all) != 0 {
			t.Errorf("host 2 finds %+v, status %d", all, status)
		}
		elsewhere := *hosts[1]
		elsewhere.env = append(elsewhere.env[:len(elsewhere.env):len(elsewhere.env)], "PACKER_CHROOT_STATE_DIR="+filepath.Join(hosts[0].dir, "state"))
		if all, status := elsewhere.reap(f); status != 1 || len(all) != 1 || all[0].Fate != "elsewhere" {
			t.Errorf("host 2, with host 1's journals, finds %+v, status %d", all, status)
		}
		b.unchanged(left)
		hosts[0].reaped(f, before)
	})
}

// onHostNumber is one of several machines on the box's cloud: with directories of its own.
func (b *box) onHostNumber(number int) *box {
	b.t.Helper()
	h, at := *b, b.endpoint
	if number > 1 {
		_, at, _ = strings.Cut(b.log.String(), fmt.Sprintf("loopcloud: metadata of host %d on ", number))
		at, _, _ = strings.Cut(at, "\n")
	}
	h.dir = filepath.Join(b.dir, fmt.Sprintf("h%d", number))
	h.env = append(h.environment(),
		"AWS_EC2_METADATA_SERVICE_ENDPOINT="+at, "OSC_METADATA_ENDPOINT="+at)
	return &h
}

// BenchmarkMany is the time of sixteen builds at once against one, with the times that
// AWS takes.
func BenchmarkMany(b *testing.B) {
	box := newBox(b, "--profile", "aws")
	run := func(n int, round string) time.Duration {
		begun := time.Now()
		var work sync.WaitGroup
		for i := range n {
			_, mark := each(i)
			builder := flavors[0].basic(o{"PREFIX_name": mark + round})
			content, err := json.Marshal(map[string]any{"builders": []any{builder}, "provisioners": []any{shell("true")}})
			box.must(err)
			template := box.write(mark+".json", string(content))
			work.Go(func() {
				if out, err := box.packer("build", "-color=false", template); err != nil {
					b.Errorf("%v\n%s", err, out)
				}
			})
		}
		work.Wait()
		return time.Since(begun)
	}
	var one, sixteen time.Duration
	round := 0
	for b.Loop() {
		round++
		one += run(1, fmt.Sprintf(" one %d", round))
		sixteen += run(many, fmt.Sprintf(" all %d", round))
	}
	b.ReportMetric(one.Seconds()/float64(round), "s/one")
	b.ReportMetric(sixteen.Seconds()/float64(round), "s/sixteen")
	b.ReportMetric(float64(sixteen)/float64(one), "×one")
}
