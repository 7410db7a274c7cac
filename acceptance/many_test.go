package acceptance

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
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

// allMarked checks that there are that many images, each with the mark of its name, or of
// its tag if it has one, and no other's, and removes them.
func (b *box) allMarked(n int) {
	b.t.Helper()
	found := map[string]bool{}
	for _, img := range b.images() {
		if !strings.HasPrefix(img.Name, "mark-") {
			continue
		}
		mark := cmp.Or(img.Tags["mark"], img.Name)
		found[mark] = true
		disk := b.disk(img.ID)
		if got, want := b.content(disk, "/root/mark"), strings.Repeat(mark+"\n", 2); got != want {
			b.t.Errorf("image %s of %s holds %q", img.Name, mark, got)
		}
		b.must(os.Remove(disk))
		b.remove(img.ID)
	}
	if len(found) != n {
		b.t.Errorf("%d images are made, not %d", len(found), n)
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

// oneTemplate is a template of both builders that many processes build at once, each with
// a mark of its own for the provisioner and a tag.
func (b *box) oneTemplate(name string, options o) (template string) {
	b.t.Helper()
	const mark = "{{user `mark`}}"
	var builders []any
	for _, f := range flavors {
		builder, _ := marked(f, b.dir, mark)
		builder["name"], builder["tags"] = f.name, o{"mark": mark}
		builder[f.prefix+"_name"] = name
		maps.Copy(builder, options)
		builders = append(builders, builder)
	}
	_, provisioner := marked(flavors[0], b.dir, mark)
	delete(provisioner, "only")
	content, err := json.Marshal(map[string]any{"variables": o{"mark": ""}, "builders": builders, "provisioners": []any{provisioner}})
	b.must(err)
	return b.write("one.json", string(content))
}

// atOnce builds one template in so many processes, and answers the marks of those that
// succeeded and what the others said.
func (b *box) atOnce(n int, template string, meanwhile func()) (succeeded, failures []string) {
	b.t.Helper()
	var work sync.WaitGroup
	var mu sync.Mutex
	for i := range n {
		f, mark := each(i)
		work.Go(func() {
			out, err := b.packer("build", "-color=false", "-only="+f.name, "-var", "mark="+mark, template)
			mu.Lock()
			defer mu.Unlock()
			if err == nil {
				succeeded = append(succeeded, mark)
			} else {
				failures = append(failures, out)
			}
		})
	}
	meanwhile()
	work.Wait()
	b.clean()
	return succeeded, failures
}

// TestSixteenOfOneTemplate has sixteen Packers build the same template at once, whose
// images have names of their own.
func TestSixteenOfOneTemplate(t *testing.T) {
	needRoot(t)
	b := newBox(t)
	before := b.inventory()
	_, failures := b.atOnce(many, b.oneTemplate("mark-{{uuid}}", nil), func() {})
	for _, out := range failures {
		t.Errorf("a build failed:\n%s", out)
	}
	b.allMarked(many)
	b.unchanged(before)
}

// TestOneNameForMany has many build an image of the same name at once, where there is
// none, or one that is to be replaced: in the end there is one, and all else is gone.
func TestOneNameForMany(t *testing.T) {
	const builds, name = 8, "mark-of-one"
	replacing := o{"force_deregister": true, "force_delete_snapshot": true}
	for _, test := range []struct {
		name    string
		options o
		old     bool
		// together has them all ask for the image at the same moment.
		together bool
	}{
		{"new", nil, false, true},
		{"replaced", replacing, true, true},
		{"replaced, as it comes", replacing, true, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			b := newBox(t)
			before := b.inventory()
			if test.old {
				b.loopcloud("image", "import", "--endpoint", b.endpoint, "--name", name, programs.root)
			}
			meanwhile := func() {}
			if test.together {
				meanwhile = func() { b.register(builds) }
			}
			succeeded, failures := b.atOnce(builds, b.oneTemplate(name, test.options), meanwhile)
			// with force_deregister each may replace another's image, whenever that comes
			if len(succeeded) == 0 || test.options == nil && len(succeeded) != 1 {
				t.Errorf("%d builds succeeded: %v", len(succeeded), succeeded)
			}
			for _, out := range failures {
				if _, why, _ := strings.Cut(flat(out), " had errors: "); t.Failed() || !strings.Contains(why, strconv.Quote(name)) {
					t.Errorf("a build failed, and must name the image:\n%s", out)
				}
			}
			if mark := b.made().Tags["mark"]; !slices.Contains(succeeded, mark) {
				t.Errorf("the image is of %q, and %q succeeded", mark, succeeded)
			}
			b.allMarked(1)
			b.unchanged(before)
		})
	}
}

// register holds builds where they register their images, until there are that many.
func (b *box) register(builds int) {
	b.t.Helper()
	var rules []o
	for _, f := range flavors {
		rules = append(rules, o{"action": f.nameOf("RegisterImage"), "hold": "before"})
	}
	b.control(http.MethodPost, "faults", rules, nil)
	b.comes(builds)
	b.goOn()
}

// comes waits until so many calls are held.
func (b *box) comes(n int) {
	b.t.Helper()
	var held []call
	for begun := time.Now(); len(held) < n; time.Sleep(20 * time.Millisecond) {
		if time.Since(begun) > deadline {
			b.t.Errorf("%d calls are held, not %d: %v", len(held), n, held)
			return
		}
		b.control(http.MethodGet, "held", nil, &held)
	}
}

// stoppedAt begins a build, and answers it when its call of the action is held.
func (b *box) stoppedAt(action, when, template string) *underway {
	b.t.Helper()
	b.control(http.MethodPost, "faults", o{"action": action, "hold": when, "times": 1}, nil)
	u := &underway{box: b, out: &syncedText{}}
	u.cmd = b.command(context.Background(), "build", "-color=false", template)
	u.cmd.Stdout, u.cmd.Stderr, u.cmd.WaitDelay = u.out, u.out, deadline
	b.must(u.cmd.Start())
	b.comes(1)
	return u
}

// TestReplacedWhileItIsPublished has an image replaced by another build before its own
// is done with it: that one fails, and takes nothing away from the other.
func TestReplacedWhileItIsPublished(t *testing.T) {
	both(t, func(t *testing.T, f flavor) {
		b := newBox(t)
		before := b.inventory()
		options := o{"force_deregister": true, "snapshot_users": []string{otherAccount}, "PREFIX_users": []string{otherAccount}, "max_retries": 1}
		action := "ModifyImageAttribute"
		if f.name == "osc-chroot" {
			options = o{"force_deregister": true, "PREFIX_account_ids": []string{otherAccount}}
			action = "UpdateImage"
		}
		first := b.stoppedAt(action, "before", b.template(f.basic(options), shell("echo first > /root/mark")))
		second := b.template(f.basic(o{"force_deregister": true}), shell("echo second > /root/mark"))
		if out, err := b.packer("build", "-color=false", second); err != nil {
			t.Errorf("the second build: %v\n%s", err, out)
		}
		b.goOn()
		if err := first.cmd.Wait(); err == nil || !strings.Contains(flat(first.out.String()), "share image ami-") {
			t.Errorf("the first build ended with %v\n%s", err, first.out)
		}
		b.clean()
		made := b.made().ID
		if got := b.content(b.disk(made), "/root/mark"); got != "second\n" {
			t.Errorf("the image is of the build %q", got)
		}
		b.remove(made)
		b.unchanged(before)
	})
}

// TestWaitingHoldsUpNobody stops a build where it waits for the cloud; another on the
// same host, with the same directories of locks and journals, builds to its end.
func TestWaitingHoldsUpNobody(t *testing.T) {
	both(t, func(t *testing.T, f flavor) {
		b := newBox(t)
		before := b.inventory()
		for _, action := range []string{"CreateVolume", "AttachVolume"} {
			for _, when := range []string{"before", "after"} {
				t.Run(when+" "+action, func(t *testing.T) {
					b := *b
					b.t = t
					first := b.stoppedAt(f.nameOf(action), when, b.template(f.basic(o{"PREFIX_name": "the first"}), shell("true")))
					second := b.template(f.basic(o{"PREFIX_name": "the second"}), shell("true"))
					if out, err := b.packer("build", "-color=false", second); err != nil {
						t.Errorf("the second build: %v\n%s", err, out)
					}
					made := b.made()
					if made.Name != "the second" {
						t.Errorf("the image %q is made", made.Name)
					}
					b.remove(made.ID)
					b.goOn()
					if err := first.cmd.Wait(); err != nil {
						t.Errorf("the first build: %v\n%s", err, first.out)
					}
					b.clean()
					b.remove(b.made().ID)
					b.unchanged(before)
				})
			}
		}
	})
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
	h.env = append(h.environment(h.described(everything)),
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
