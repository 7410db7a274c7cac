package acceptance

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"
	"github.com/google/go-cmp/cmp"
)

// sampled is how many points of each cloud run otherwise.
const sampled = 8

// seed is what random choices are made by: the same again with SEED.
var seed = func() uint64 {
	if n, err := strconv.ParseUint(os.Getenv("SEED"), 10, 64); err == nil {
		return n
	}
	return uint64(time.Now().UnixNano())
}()

// summary tells of a matrix, also when it has passed.
func summary(format string, args ...any) { fmt.Fprintf(os.Stderr, "matrix: "+format+"\n", args...) }

// A spot is where a build is killed: at a call, at a local act, after a step, or in a
// command of the user's.
type spot struct {
	// action is a call's, in the cloud's words; skip of them have passed before.
	action string
	skip   int
	when   string
	// local says that the action is an act on the host instead; if a build was killed
	// where reaping says, it is the cleaning up after that.
	local   bool
	reaping *spot
	// pause counts the steps of packer build -debug.
	pause int
	// hook is one of the hooks.
	hook string
	whom killed
}

func (s spot) String() string {
	where := "in " + s.hook
	switch {
	case s.action != "":
		where = fmt.Sprintf("%s %s %d", s.when, s.action, s.skip+1)
	case s.pause > 0:
		where = fmt.Sprintf("after step %d", s.pause)
	}
	if s.reaping != nil {
		where += ", reaping after " + strings.TrimSuffix(s.reaping.String(), ", ")
	}
	return where + ", " + string(s.whom)
}

// hooks are where commands of the user's run.
var hooks = []string{"pre_mount_commands", "post_mount_commands", "provision", "pre_unmount_commands"}

// Besides plugin, plugin and keeper, and everybody.
const (
	onlyKeeper killed = "keeper"
	onlyPacker killed = "Packer"
)

// theImage is the name of the images that full builds make and replace.
const theImage = "the image"

// full is a template of all that has an undoing: an old image that is replaced with
// its snapshots, copies and passing images, a source that is copied, permissions,
// protection. In hook, unless empty, the build stops.
func (b *box) full(f flavor, source, hook string) string {
	b.t.Helper()
	stop := "touch " + filepath.Join(b.dir, "started") + "; sleep 1000"
	options := o{
		"source_PREFIX": source, "PREFIX_name": theImage, "mount_path": filepath.Join(b.dir, "mnt", "of", "full"),
		"copy_files": []string{"/etc/resolv.conf", "/etc/passwd"}, "block_services": true, "clean_uploads": true,
		"force_deregister": true, "force_delete_snapshot": true,
		"tags": o{"made": "by a full build"}, "snapshot_tags": o{"made": "by a full build"}, "root_volume_tags": o{"made": "by a full build"},
	}
	for _, name := range hooks {
		if name != "provision" {
			options[name] = []string{"true"}
		}
	}
	more := o{"PREFIX_account_ids": []string{otherAccount}, "snapshot_users": []string{otherAccount}}
	if f.name == "amazon-chroot" {
		more = o{
			"PREFIX_users": []string{otherAccount}, "PREFIX_regions": []string{elsewhere}, "encrypt_boot": true,
			"kms_key_id": "alias/images", "region_kms_key_ids": o{elsewhere: "alias/images"}, "snapshot_users": []string{otherAccount},
			"deprecate_at": time.Now().AddDate(1, 0, 0).UTC().Format(time.RFC3339), "deregistration_protection": o{"enabled": true},
		}
	}
	for k, v := range more {
		options[k] = v
	}
	provisioners := []map[string]any{
		shell("echo full > /root/full", "setsid sleep 1000 </dev/null >/dev/null 2>&1 &"),
		{"type": "file", "source": filepath.Dir(b.write("upload/file", "full\n")), "destination": "/tmp"},
	}
	if hook == "provision" {
		provisioners = append(provisioners, shell("(setsid sleep 1000 &) ; sleep 1000"))
	} else if hook != "" {
		options[hook] = []string{stop}
	}
	return b.template(f.basic(options), provisioners...)
}

// A killing is a box in which full builds are killed, one after the other.
type killing struct {
	*box
	flavor
	source string
	known  roles
	// keepers are the process ids of the last build's keepers, as far as they are known.
	keepers []int
	// before and done are the things before a full build and after it.
	before, done []string
}

func newKilling(t testing.TB, f flavor) *killing {
	t.Helper()
	k := &killing{box: newBox(t, "--key", otherKeyID+":"+secret+":"+otherAccount), flavor: f, source: sourceID}
	k.through(k.described(onlyRequests)) // answers may be garbage
	if f.name == "osc-chroot" {
		k.source = k.foreign("locked", false)
	}
	k.reset()
	return k
}

// reset has an old image in both regions, and nothing of a build.
func (k *killing) reset() {
	k.t.Helper()
	ctx := context.Background()
	for _, at := range []string{region, elsewhere} {
		for _, image := range k.ownImages(at) {
			if aws.ToString(image.ImageId) != sourceID {
				k.removeIn(at, image)
			}
		}
	}
	old := k.loopcloud("image", "import", "--endpoint", k.endpoint, "--name", theImage, programs.root)
	copied, err := k.at(elsewhere).CopyImage(ctx, &ec2.CopyImageInput{Name: aws.String(theImage), SourceImageId: &old, SourceRegion: aws.String(region)})
	k.must(err)
	for at, id := range map[string]string{region: old, elsewhere: aws.ToString(copied.ImageId)} {
		_, err := k.at(at).CreateTags(ctx, &ec2.CreateTagsInput{Resources: []string{id}, Tags: []types.Tag{{Key: aws.String("old"), Value: aws.String("one")}}})
		k.must(err)
		_, err = k.at(at).ModifyImageAttribute(ctx, &ec2.ModifyImageAttributeInput{ImageId: &id, LaunchPermission: &types.LaunchPermissionModifications{
			Add: []types.LaunchPermission{{UserId: aws.String(otherAccount)}},
		}})
		k.must(err)
	}
	k.known = k.roles()
	k.before = k.things(k.known)
}

// removeIn removes an image with its snapshots, protected or not.
func (k *killing) removeIn(at string, image types.Image) {
	k.t.Helper()
	ctx, c := context.Background(), k.at(at)
	if strings.HasPrefix(aws.ToString(image.DeregistrationProtection), "enabled") {
		_, err := c.DisableImageDeregistrationProtection(ctx, &ec2.DisableImageDeregistrationProtectionInput{ImageId: image.ImageId})
		k.must(err)
	}
	_, err := c.DeregisterImage(ctx, &ec2.DeregisterImageInput{ImageId: image.ImageId})
	k.must(err)
	for _, m := range image.BlockDeviceMappings {
		if m.Ebs != nil && m.Ebs.SnapshotId != nil {
			_, err := c.DeleteSnapshot(ctx, &ec2.DeleteSnapshotInput{SnapshotId: m.Ebs.SnapshotId})
			k.must(err)
		}
	}
}

// learn makes a full build, and finds the spots that it has: each of its calls, from
// both sides, each of its steps, and each hook.
func (k *killing) learn() (spots []spot) {
	k.t.Helper()
	k.calls()
	k.build(k.full(k.flavor, k.source, ""))
	met := map[string]int{}
	for _, c := range k.calls() {
		for _, when := range []string{"before", "after"} {
			spots = append(spots, spot{action: c.Action, skip: met[c.Action], when: when})
		}
		met[c.Action]++
	}
	k.done = k.things(k.known)
	k.reset()
	k.calls()
	steps := k.steps()
	again := map[string]int{}
	for _, c := range k.calls() {
		again[c.Action]++
	}
	k.reset()
	// how often a wait looks is another number every time
	spots = slices.DeleteFunc(spots, func(s spot) bool { return s.skip >= again[s.action] })
	for n := range steps {
		spots = append(spots, spot{pause: n + 1})
	}
	for _, hook := range hooks {
		spots = append(spots, spot{hook: hook})
	}
	return spots
}

// steps counts the pauses of a build with -debug.
func (k *killing) steps() (n int) {
	k.t.Helper()
	u, enter := k.start(k.full(k.flavor, k.source, ""), "-debug")
	defer enter.Close()
	go func() { _, _ = io.Copy(enter, endless{}) }()
	if err := u.cmd.Wait(); err != nil {
		k.t.Fatalf("packer build -debug: %v\n%s", err, u.out)
	}
	return strings.Count(u.out.String(), "Press enter to continue")
}

// endless is somebody who leans on the enter key.
type endless struct{}

func (endless) Read(p []byte) (int, error) {
	time.Sleep(20 * time.Millisecond)
	p[0] = '\n'
	return 1, nil
}

// start begins a build of a template, that may be told to go on.
func (k *killing) start(template string, args ...string) (*underway, io.WriteCloser) {
	k.t.Helper()
	u := k.prepared(template, args...)
	enter, err := u.cmd.StdinPipe()
	k.must(err)
	k.must(u.cmd.Start())
	return u, enter
}

// prepared is a build that only has to be started.
func (k *killing) prepared(template string, args ...string) *underway {
	u := &underway{box: k.box, out: &syncedText{}, mount: filepath.Join(k.dir, "mnt")}
	u.cmd = k.command(context.Background(), append(append([]string{"build", "-color=false"}, args...), template)...)
	u.cmd.Stdout, u.cmd.Stderr, u.cmd.WaitDelay = u.out, u.out, time.Second
	return u
}

// reach starts a full build, and answers when it is at the spot. Should a build have
// fewer calls this time, it ends instead.
func (k *killing) reach(s spot) (u *underway, reached bool) {
	k.t.Helper()
	started := filepath.Join(k.dir, "started")
	_ = os.Remove(started)
	var args []string
	if s.pause > 0 {
		args = append(args, "-debug")
	}
	if s.action != "" {
		k.control(http.MethodPost, "faults", map[string]any{"action": s.action, "skip": s.skip, "hold": s.when, "times": 1}, nil)
	}
	u, enter := k.start(k.full(k.flavor, k.source, s.hook), args...)
	ended := make(chan struct{})
	go func() {
		u.ended = u.cmd.Wait()
		close(ended)
	}()
	u.over = ended
	pressed := 1
	there := func() bool {
		switch {
		case s.action != "":
			var held []struct{ Action string }
			k.control(http.MethodGet, "held", nil, &held)
			return len(held) > 0
		case s.pause > 0:
			n := strings.Count(u.out.String(), "Press enter to continue")
			for ; pressed < s.pause && pressed <= n; pressed++ {
				_, _ = enter.Write([]byte("\n"))
			}
			return n >= s.pause
		case s.hook == "provision":
			return u.inside() >= 3
		}
		return exists(started)
	}
	for begun := time.Now(); time.Since(begun) < deadline; time.Sleep(20 * time.Millisecond) {
		if there() {
			return u, true
		}
		select {
		case <-ended:
			return u, false
		default:
		}
	}
	_ = u.cmd.Process.Kill()
	k.t.Fatalf("the build does not come to %v:\n%s", s, u.out)
	return nil, false
}

// strike kills at a spot, cleans up, and compares. It answers whether the build was
// over by then, so that its image stays.
func (k *killing) strike(s spot, byBuild bool) (kept, reached bool) {
	k.t.Helper()
	k.keepers = nil
	reach := k.reach
	if s.local {
		reach = k.reachAct
	}
	u, reached := reach(s)
	if reached && !s.local {
		k.keepers = append(k.keepers, u.process("packer-plugin-"+k.name, "keep-chroot"))
		u.killOnly(k.flavor, s.whom)
	}
	k.goOn()
	<-u.over
	if !reached && u.ended != nil {
		k.t.Errorf("the build failed by itself: %v\n%s", u.ended, u.out)
	}
	k.settle(s)
	k.emptyTmp()
	k.cleanUp(byBuild)
	now := k.things(k.known)
	if cmp.Equal(now, k.done) {
		kept = true
	} else if diff := cmp.Diff(k.before, now); diff != "" {
		k.t.Errorf("the cloud is not as before (-before +now):\n%s", diff)
	}
	left := k.leftovers()
	for _, keeper := range k.keepers {
		if !exists(fmt.Sprintf("/proc/%d", keeper)) { // else it is another's by now
			left = append(left, groupsOf(keeper)...)
		}
	}
	for _, entry := range left {
		k.t.Errorf("left on the host: %s", entry)
	}
	if k.t.Failed() {
		k.t.Logf("the build said:\n%s", u.out)
	}
	return kept, reached
}

// settle waits for those who live to end by themselves. What users run on the host, or
// in a root whose keeper is dead too, is theirs to end; but for what runs in the root when
// a build is killed at a local act.
func (k *killing) settle(s spot) {
	k.t.Helper()
	if !s.local && (s.whom == everybody || s.whom == theKeeper || s.hook != "" && s.hook != "provision") {
		for _, pid := range pidsWith(k.marker) {
			if strings.HasPrefix(read(fmt.Sprintf("/proc/%d/cmdline", pid)), "sleep\x00") {
				_ = syscall.Kill(pid, syscall.SIGKILL)
			}
		}
	}
	if s.whom == everybody || s.whom == theKeeper {
		return
	}
	for begun := time.Now(); len(processesWith(k.marker)) > 0; time.Sleep(20 * time.Millisecond) {
		if time.Since(begun) > deadline {
			k.t.Errorf("still there: %q", processesWith(k.marker))
			return
		}
	}
}

// cleanUp reaps by the command, or by another build.
func (k *killing) cleanUp(byBuild bool) {
	k.t.Helper()
	if !byBuild {
		if all, status := k.reap(k.flavor); status != 0 {
			k.t.Errorf("reap ends with %d: %+v", status, all)
		}
		return
	}
	const name = "the next one"
	out, err := k.packer("build", "-color=false", k.template(k.basic(o{"PREFIX_name": name, "mount_path": filepath.Join(k.dir, "next")}), shell("true")))
	if err != nil {
		k.t.Errorf("the next build fails: %v\n%s", err, out)
	}
	for _, image := range k.ownImages(region) {
		if aws.ToString(image.Name) == name {
			k.removeIn(region, image)
		}
	}
}

// killOnly kills processes of the build.
func (u *underway) killOnly(f flavor, whom killed) {
	u.t.Helper()
	switch whom {
	case onlyKeeper:
		u.end(u.process("packer-plugin-"+f.name, "keep-chroot"))
	case onlyPacker:
		for _, pid := range pidsWith(u.marker) {
			exe, _ := os.Readlink(fmt.Sprintf("/proc/%d/exe", pid))
			if isPacker(exe) {
				u.end(pid)
			}
		}
	default:
		u.kill(f, whom)
	}
}

// isPacker says whether a program is Packer itself, which is cached by another name.
func isPacker(exe string) bool {
	name := filepath.Base(exe)
	return strings.HasPrefix(name, "packer") && !strings.HasPrefix(name, "packer-plugin-")
}

func (u *underway) end(pid int) {
	u.t.Helper()
	if pid == 0 {
		u.t.Error("there is nobody to kill")
		return
	}
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil && !errors.Is(err, syscall.ESRCH) {
		u.t.Error(err)
	}
}

// others are who is killed at the i-th spot when it is not everybody. Who has done a
// local act is always killed alone as well: nobody else knows of it yet.
func (s spot) others(i int) []killed {
	one := []killed{thePlugin, theKeeper, onlyKeeper, onlyPacker}[i/4%4]
	actor := thePlugin
	if strings.HasPrefix(s.action, keeperRole) {
		actor = onlyKeeper
	}
	switch {
	case s.local && (i%4 != 0 || one == actor):
		return []killed{actor}
	case s.local:
		return []killed{actor, one}
	case i%2 == 0 || s.action == "":
		return []killed{one}
	}
	return nil
}

// chosen are the spots that run, each with who is killed there: all of them, or a
// sample that is spread evenly.
func chosen(f flavor, spots []spot, sample int) []spot {
	random := rand.New(rand.NewPCG(seed, uint64(len(f.name))))
	victims := []killed{everybody, everybody, everybody, everybody, thePlugin, theKeeper, onlyKeeper, onlyPacker}
	if matrices {
		var every []spot
		for i, s := range spots {
			for _, s.whom = range append([]killed{everybody}, s.others(i)...) {
				every = append(every, s)
			}
		}
		return every
	}
	random.Shuffle(len(victims), func(i, j int) { victims[i], victims[j] = victims[j], victims[i] })
	var some []spot
	first, step := random.Float64(), float64(len(spots))/float64(sample)
	for i := range sample {
		s := spots[int((float64(i)+first)*step)]
		s.whom = victims[i%len(victims)]
		some = append(some, s)
	}
	return some
}

// boxes is how many boxes of each cloud work side by side: much of the time passes
// in waiting for calls that may be under way.
const boxes = 5

// TestKillMatrix kills full builds at every call, before and after it has had its
// effect, after every step, and in every hook; then cleans up, and compares the
// cloud and the host with what they were before.
func TestKillMatrix(t *testing.T) {
	both(t, func(t *testing.T, f flavor) {
		first := newKilling(t, f)
		every := first.learn()
		first.matrix("", every, sampled)
	})
}

// matrix kills at all points, or at a sample of them.
func (k *killing) matrix(name string, every []spot, sample int) {
	t, f := k.t.(*testing.T), k.flavor
	spots := chosen(f, every, sample)
	var mu sync.Mutex
	var next, differing, kept int
	var missed []string // points that no build came to
	begun := time.Now()
	t.Run("at", func(t *testing.T) {
		var work sync.WaitGroup
		defer work.Wait()
		for range boxes {
			work.Go(func() {
				var own *killing
				for {
					mu.Lock()
					i := next
					next++
					mu.Unlock()
					if i >= len(spots) {
						return
					}
					if own == nil {
						own = newKilling(t, f)
						own.done = k.done
					}
					ok := t.Run(spots[i].String(), func(t *testing.T) {
						outer := own.t
						own.t = t
						defer func() { own.t = outer }()
						stays, reached := own.insist(spots[i], i%3 == 2)
						mu.Lock()
						defer mu.Unlock()
						if !reached {
							missed = append(missed, spots[i].String())
						}
						if stays {
							kept++
						}
					})
					if !ok {
						mu.Lock()
						differing++
						mu.Unlock()
						own = nil // what is left there is not the next one's
					}
				}
			})
		}
	})
	summary("%s%s, seed %d: %d points, %d kills (%d of them when the image was there to stay), %d not reached, %d differences, in %.0f s",
		f.name, name, seed, len(every), len(spots)-len(missed), kept, len(missed), differing, time.Since(begun).Seconds())
	if len(missed) > 0 {
		t.Errorf("of %d points, these were not reached: %s", len(spots), strings.Join(missed, ", "))
	}
}

// insist strikes at a spot, up to five times if the build does not come there: what is
// done side by side is done in another order every time.
func (k *killing) insist(s spot, byBuild bool) (kept, reached bool) {
	k.t.Helper()
	for range 5 {
		kept, reached = k.strike(s, byBuild)
		if kept && !k.t.Failed() {
			k.reset()
		}
		if reached || k.t.Failed() {
			break
		}
	}
	return kept, reached
}

// syncedText is what a process has said so far.
type syncedText struct {
	mu   sync.Mutex
	text strings.Builder
}

func (s *syncedText) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.text.Write(p)
}

func (s *syncedText) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.text.String()
}
