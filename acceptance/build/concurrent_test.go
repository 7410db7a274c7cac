package build

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

	"github.com/packer-chroot/packer-plugin-chroot/acceptance/harness"
)

// many is how many builds run at once.
const many = 16

// marked returns a builder and its provisioner. The provisioner writes the mark into the image and checks that no other
// build writes there.
func marked(f harness.Flavor, dir, mark string) (builder, provisioner map[string]any) {
	builder = f.Basic(harness.O{"PREFIX_name": mark, "mount_path": filepath.Join(dir, "mnt", "{{.Device}}")})
	builder["name"] = mark
	provisioner = harness.Shell("test ! -e /root/mark", "echo "+mark+" > /root/mark", "sleep 0.3", "test \"$(cat /root/mark)\" = "+mark, "echo "+mark+" >> /root/mark")
	provisioner["only"] = []string{mark}
	return builder, provisioner
}

// each is the name of a build, and its flavor.
func each(n int) (f harness.Flavor, mark string) {
	f = harness.Flavors[n%len(harness.Flavors)]
	return f, fmt.Sprintf("mark-%d", n)
}

// allMarked checks that there are that many images, each with the mark of its name, or of
// its tag if it has one, and no other's, and removes them.
func allMarked(b *harness.Box, n int) {
	b.Helper()
	found := map[string]bool{}
	for _, img := range b.Images() {
		if !strings.HasPrefix(img.Name, "mark-") {
			continue
		}
		mark := cmp.Or(img.Tags["mark"], img.Name)
		found[mark] = true
		disk := b.Disk(img.ID)
		if got, want := b.Content(disk, "/root/mark"), strings.Repeat(mark+"\n", 2); got != want {
			b.Errorf("image %s of %s holds %q", img.Name, mark, got)
		}
		b.Must(os.Remove(disk))
		b.Remove(img.ID)
	}
	if len(found) != n {
		b.Errorf("%d images are made, not %d", len(found), n)
	}
}

// interfere attaches and detaches a volume under the device names that builds will ask for, until stop is closed. It
// returns how often it got a name.
func interfere(b *harness.Box, volume string, stop <-chan struct{}) (taken int) {
	ctx, c := context.Background(), b.Client()
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

// TestSixteenProcesses runs sixteen Packer processes in parallel, with both builders, while a volume is attached under
// the device names that come next.
func TestSixteenProcesses(t *testing.T) {
	harness.NeedRoot(t)
	b := harness.New(t)
	before := b.Inventory()
	volume := b.CreateVolume(1, "")
	stop, taken := make(chan struct{}), make(chan int, 1)
	go func() { taken <- interfere(b, volume, stop) }()
	var work sync.WaitGroup
	for n := range many {
		f, mark := each(n)
		builder, provisioner := marked(f, b.Dir, mark)
		delete(provisioner, "only")
		content, err := json.Marshal(map[string]any{"builders": []any{builder}, "provisioners": []any{provisioner}})
		b.Must(err)
		template := b.Write(mark+".json", string(content))
		work.Go(func() {
			if out, err := b.Packer("build", "-color=false", template); err != nil {
				t.Errorf("%s: %v\n%s", mark, err, out)
			}
		})
	}
	work.Wait()
	close(stop)
	if got := <-taken; got == 0 {
		t.Error("nobody interfered")
	}
	_, err := b.Client().DeleteVolume(context.Background(), &ec2.DeleteVolumeInput{VolumeId: &volume})
	b.Must(err)
	b.Clean()
	allMarked(b, many)
	b.Unchanged(before)
}

// TestSixteenBuilds has one Packer make sixteen builds at once.
func TestSixteenBuilds(t *testing.T) {
	harness.NeedRoot(t)
	b := harness.New(t)
	before := b.Inventory()
	var builders, provisioners []any
	for n := range many {
		f, mark := each(n)
		builder, provisioner := marked(f, b.Dir, mark)
		builders, provisioners = append(builders, builder), append(provisioners, provisioner)
	}
	content, err := json.Marshal(map[string]any{"builders": builders, "provisioners": provisioners})
	b.Must(err)
	b.Build(b.Write("sixteen.json", string(content)))
	allMarked(b, many)
	b.Unchanged(before)
}

// oneTemplate is a template of both builders that many processes build at once, each with
// a mark of its own for the provisioner and a tag.
func oneTemplate(b *harness.Box, name string, options harness.O) (template string) {
	b.Helper()
	const mark = "{{user `mark`}}"
	var builders []any
	for _, f := range harness.Flavors {
		builder, _ := marked(f, b.Dir, mark)
		builder["name"], builder["tags"] = f.Name, harness.O{"mark": mark}
		builder[f.Prefix+"_name"] = name
		maps.Copy(builder, options)
		builders = append(builders, builder)
	}
	_, provisioner := marked(harness.Flavors[0], b.Dir, mark)
	delete(provisioner, "only")
	content, err := json.Marshal(map[string]any{"variables": harness.O{"mark": ""}, "builders": builders, "provisioners": []any{provisioner}})
	b.Must(err)
	return b.Write("one.json", string(content))
}

// atOnce builds one template in n processes. It returns the marks of the successful builds and the output of the failed
// ones.
func atOnce(b *harness.Box, n int, template string, meanwhile func()) (succeeded, failures []string) {
	b.Helper()
	var work sync.WaitGroup
	var mu sync.Mutex
	for i := range n {
		f, mark := each(i)
		work.Go(func() {
			out, err := b.Packer("build", "-color=false", "-only="+f.Name, "-var", "mark="+mark, template)
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
	b.Clean()
	return succeeded, failures
}

// TestSixteenOfOneTemplate builds the same template, with unique image names, in sixteen processes in parallel.
func TestSixteenOfOneTemplate(t *testing.T) {
	harness.NeedRoot(t)
	b := harness.New(t)
	before := b.Inventory()
	_, failures := atOnce(b, many, oneTemplate(b, "mark-{{uuid}}", nil), func() {})
	for _, out := range failures {
		t.Errorf("a build failed:\n%s", out)
	}
	allMarked(b, many)
	b.Unchanged(before)
}

// TestParallelBuildsOfOneName has many builds create an image of the same name in parallel, with and
// without an image to replace. At the end there is one image, and no other resource remains.
func TestParallelBuildsOfOneName(t *testing.T) {
	const builds, name = 5, "mark-of-one"
	replacing := harness.O{"force_deregister": true, "force_delete_snapshot": true}
	for _, test := range []struct {
		name    string
		options harness.O
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
			b := harness.New(t)
			before := b.Inventory()
			if test.old {
				b.Loopcloud("image", "import", "--endpoint", b.Endpoint, "--name", name, harness.Programs.Root)
			}
			meanwhile := func() {}
			if test.together {
				meanwhile = func() { register(b, builds) }
			}
			succeeded, failures := atOnce(b, builds, oneTemplate(b, name, test.options), meanwhile)
			// with force_deregister each may replace another's image, whenever that comes
			if len(succeeded) == 0 || test.options == nil && len(succeeded) != 1 {
				t.Errorf("%d builds succeeded: %v", len(succeeded), succeeded)
			}
			for _, out := range failures {
				if _, why, _ := strings.Cut(harness.Flat(out), " had errors: "); t.Failed() || !strings.Contains(why, strconv.Quote(name)) {
					t.Errorf("a build failed, and must name the image:\n%s", out)
				}
			}
			if mark := b.Made().Tags["mark"]; !slices.Contains(succeeded, mark) {
				t.Errorf("the image is of %q, and %q succeeded", mark, succeeded)
			}
			allMarked(b, 1)
			b.Unchanged(before)
		})
	}
}

// register holds builds where they register their images, until there are that many.
func register(b *harness.Box, builds int) {
	b.Helper()
	var rules []harness.O
	for _, f := range harness.Flavors {
		rules = append(rules, harness.O{"action": f.Action("RegisterImage"), "hold": "before"})
	}
	b.Control(http.MethodPost, "faults", rules, nil)
	comes(b, builds)
	b.GoOn()
}

// comes waits until so many calls are held.
func comes(b *harness.Box, n int) {
	b.Helper()
	var held []harness.Call
	for begun := time.Now(); len(held) < n; time.Sleep(20 * time.Millisecond) {
		if time.Since(begun) > harness.Deadline {
			b.Errorf("%d calls are held, not %d: %v", len(held), n, held)
			return
		}
		b.Control(http.MethodGet, "held", nil, &held)
	}
}

// stoppedAt begins a build and returns it when its call of the action is held, as the first of so many calls; 0 is all.
func stoppedAt(b *harness.Box, action, when string, times int, template string) *harness.Underway {
	b.Helper()
	b.Control(http.MethodPost, "faults", harness.O{"action": action, "hold": when, "times": times}, nil)
	u := &harness.Underway{Box: b, Out: &harness.SyncedText{}}
	u.Cmd = b.Command(context.Background(), "build", "-color=false", template)
	u.Cmd.Stdout, u.Cmd.Stderr, u.Cmd.WaitDelay = u.Out, u.Out, harness.Deadline
	b.Must(u.Cmd.Start())
	comes(b, 1)
	return u
}

// TestReplacedWhileItIsPublished has an image replaced by another build before its own
// is done with it: that one fails, and takes nothing away from the other.
func TestReplacedWhileItIsPublished(t *testing.T) {
	harness.Both(t, func(t *testing.T, f harness.Flavor) {
		b := harness.New(t)
		before := b.Inventory()
		options := harness.O{"force_deregister": true, "snapshot_users": []string{harness.OtherAccount}, "PREFIX_users": []string{harness.OtherAccount}, "max_retries": 1}
		action := "ModifyImageAttribute"
		if f.Name == "osc-chroot" {
			options = harness.O{"force_deregister": true, "PREFIX_account_ids": []string{harness.OtherAccount}}
			action = "UpdateImage"
		}
		first := stoppedAt(b, action, "before", 0, b.Template(f.Basic(options), harness.Shell("echo first > /root/mark")))
		second := b.Template(f.Basic(harness.O{"force_deregister": true}), harness.Shell("echo second > /root/mark"))
		if out, err := b.Packer("build", "-color=false", second); err != nil {
			t.Errorf("the second build: %v\n%s", err, out)
		}
		b.GoOn()
		if err := first.Cmd.Wait(); err == nil || !strings.Contains(harness.Flat(first.Out.String()), "share image ami-") {
			t.Errorf("the first build ended with %v\n%s", err, first.Out)
		}
		b.Clean()
		made := b.Made().ID
		if got := b.Content(b.Disk(made), "/root/mark"); got != "second\n" {
			t.Errorf("the image is of the build %q", got)
		}
		b.Remove(made)
		b.Unchanged(before)
	})
}

// TestWaitingBlocksNoOtherBuild stops a build where it waits for the cloud; another on the
// same host, with the same directories of locks and journals, builds to its end.
func TestWaitingBlocksNoOtherBuild(t *testing.T) {
	harness.Both(t, func(t *testing.T, f harness.Flavor) {
		b := harness.New(t)
		before := b.Inventory()
		for _, action := range []string{"CreateVolume", "AttachVolume"} {
			for _, when := range []string{"before", "after"} {
				t.Run(when+" "+action, func(t *testing.T) {
					b := b.In(t)
					first := stoppedAt(b, f.Action(action), when, 1, b.Template(f.Basic(harness.O{"PREFIX_name": "the first"}), harness.Shell("true")))
					second := b.Template(f.Basic(harness.O{"PREFIX_name": "the second"}), harness.Shell("true"))
					if out, err := b.Packer("build", "-color=false", second); err != nil {
						t.Errorf("the second build: %v\n%s", err, out)
					}
					made := b.Made()
					if made.Name != "the second" {
						t.Errorf("the image %q is made", made.Name)
					}
					b.Remove(made.ID)
					b.GoOn()
					if err := first.Cmd.Wait(); err != nil {
						t.Errorf("the first build: %v\n%s", err, first.Out)
					}
					b.Clean()
					b.Remove(b.Made().ID)
					b.Unchanged(before)
				})
			}
		}
	})
}

// TestThreeHosts builds on three hosts in parallel that share only the account. Cleaning up on one host must not touch
// the builds of another.
func TestThreeHosts(t *testing.T) {
	harness.Both(t, func(t *testing.T, f harness.Flavor) {
		b := harness.New(t, "--hosts", "3")
		before := b.Inventory()
		hosts := make([]*harness.Box, 3)
		for n := range hosts {
			hosts[n] = onHostNumber(b, n+1)
		}
		var work sync.WaitGroup
		for n, host := range hosts {
			mark := fmt.Sprintf("mark-%d", n)
			builder, provisioner := marked(f, host.Dir, mark)
			delete(provisioner, "only")
			template := host.Template(builder, provisioner)
			work.Go(func() {
				if out, err := host.Packer("build", "-color=false", template); err != nil {
					t.Errorf("host %d: %v\n%s", n+1, err, out)
				}
			})
		}
		work.Wait()
		allMarked(b, len(hosts))
		b.Unchanged(before)

		hosts[0].KillAt(f, harness.Provisioning, harness.KillEverything)
		left := b.Inventory()
		if all, status := hosts[1].Reap(f); status != 0 || len(all) != 0 {
			t.Errorf("host 2 finds %+v, status %d", all, status)
		}
		elsewhere := *hosts[1]
		elsewhere.Env = append(elsewhere.Env[:len(elsewhere.Env):len(elsewhere.Env)], "PACKER_CHROOT_STATE_DIR="+filepath.Join(hosts[0].Dir, "state"))
		if all, status := elsewhere.Reap(f); status != 1 || len(all) != 1 || all[0].Fate != "elsewhere" {
			t.Errorf("host 2, with host 1's journals, finds %+v, status %d", all, status)
		}
		b.Unchanged(left)
		hosts[0].Reaped(f, before)
	})
}

// onHostNumber is one of several machines on the box's cloud: with directories of its own.
func onHostNumber(b *harness.Box, number int) *harness.Box {
	b.Helper()
	h, at := b.In(b.TB), b.Endpoint
	if number > 1 {
		_, at, _ = strings.Cut(b.Output.String(), fmt.Sprintf("loopcloud: metadata of host %d on ", number))
		at, _, _ = strings.Cut(at, "\n")
	}
	h.Dir = filepath.Join(b.Dir, fmt.Sprintf("h%d", number))
	h.Env = append(h.Environment(h.Described(harness.Everything)),
		"AWS_EC2_METADATA_SERVICE_ENDPOINT="+at, "OSC_METADATA_ENDPOINT="+at)
	return h
}

// BenchmarkMany is the time of sixteen builds at once against one, with the times that
// AWS takes.
func BenchmarkMany(b *testing.B) {
	box := harness.New(b, "--profile", "aws")
	run := func(n int, round string) time.Duration {
		begun := time.Now()
		var work sync.WaitGroup
		for i := range n {
			_, mark := each(i)
			builder := harness.Flavors[0].Basic(harness.O{"PREFIX_name": mark + round})
			content, err := json.Marshal(map[string]any{"builders": []any{builder}, "provisioners": []any{harness.Shell("true")}})
			box.Must(err)
			template := box.Write(mark+".json", string(content))
			work.Go(func() {
				if out, err := box.Packer("build", "-color=false", template); err != nil {
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
