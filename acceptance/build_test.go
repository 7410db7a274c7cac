package acceptance

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/packer-chroot/packer-plugin-chroot/remove"
)

// flavor is what differs between the two builders in a test that both pass.
type flavor struct {
	name, prefix, builderID string
}

var flavors = []flavor{
	{"amazon-chroot", "ami", "mitchellh.amazon.chroot"},
	{"osc-chroot", "omi", "oapi.outscale.chroot"},
}

// both runs a test for each builder, side by side.
func both(t *testing.T, test func(t *testing.T, f flavor)) {
	t.Helper()
	needRoot(t)
	t.Parallel()
	for _, f := range flavors {
		t.Run(f.name, func(t *testing.T) {
			t.Parallel()
			test(t, f)
		})
	}
}

// basic is the least that a template of this builder says, and more.
func (f flavor) basic(more map[string]any) map[string]any {
	options := map[string]any{
		"type":               f.name,
		"source_" + f.prefix: sourceID,
		f.prefix + "_name":   "made by " + f.name,
	}
	for k, v := range more {
		if v == nil {
			delete(options, strings.ReplaceAll(k, "PREFIX", f.prefix))
			continue
		}
		options[strings.ReplaceAll(k, "PREFIX", f.prefix)] = v
	}
	return options
}

func shell(inline ...string) map[string]any {
	return map[string]any{"type": "shell", "inline": inline}
}

// image is what `loopcloud image list --json` tells of one.
type image struct {
	ID          string            `json:"id"`
	Name        string            `json:"name"`
	Description string            `json:"description"`
	State       string            `json:"state"`
	Tags        map[string]string `json:"tags"`
}

func (b *box) images() []image {
	b.t.Helper()
	var all []image
	if err := json.Unmarshal([]byte(b.loopcloud("image", "list", "--endpoint", b.endpoint, "--json")), &all); err != nil {
		b.t.Fatal(err)
	}
	return all
}

// made is the one image of the cloud that a build made.
func (b *box) made() image {
	b.t.Helper()
	var made []image
	for _, img := range b.images() {
		if img.ID != sourceID {
			made = append(made, img)
		}
	}
	if len(made) != 1 {
		b.t.Fatalf("builds made %d images, not one: %v", len(made), made)
	}
	return made[0]
}

// disk exports an image's disk.
func (b *box) disk(id string) string {
	b.t.Helper()
	path := filepath.Join(b.dir, id+".raw")
	b.loopcloud("image", "export", "--endpoint", b.endpoint, id, path)
	return path
}

// debugfs asks the ext4 file system at an offset of a disk. Whatever it complains of
// fails the test: it ends with 0 all the same.
func (b *box) debugfs(disk string, offset int, request string) string {
	b.t.Helper()
	out, complaint := b.askDebugfs(disk, offset, request)
	if complaint != "" {
		b.t.Fatalf("debugfs %s: %s", request, complaint)
	}
	return out
}

// askDebugfs answers what debugfs prints, and what it complains of beside its name.
func (b *box) askDebugfs(disk string, offset int, request string) (out, complaint string) {
	b.t.Helper()
	where := disk
	if offset > 0 {
		where = fmt.Sprintf("%s?offset=%d", disk, offset)
	}
	cmd := exec.Command("debugfs", "-R", request, where)
	var stdout, stderr strings.Builder
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		b.t.Fatalf("debugfs %s: %v\n%s", request, err, &stderr)
	}
	_, complaint, _ = strings.Cut(stderr.String(), "\n") // the first line is its version
	return stdout.String(), strings.TrimSpace(complaint)
}

// content reads a file of the first partition of an image.
func (b *box) content(disk, path string) string {
	b.t.Helper()
	return b.debugfs(disk, 1<<20, "cat "+path)
}

// has tells whether the first partition of an image has a file.
func (b *box) has(disk, path string) bool {
	b.t.Helper()
	_, complaint := b.askDebugfs(disk, 1<<20, "stat "+path)
	if complaint != "" && !strings.Contains(complaint, "File not found") {
		b.t.Fatalf("debugfs cannot look for %s: %s", path, complaint)
	}
	return complaint == ""
}

var manifestID = regexp.MustCompile(`^[a-z0-9-]+:ami-[0-9a-f]{8,17}$`)

func TestSeedsBasicExamplesAsPrinted(t *testing.T) {
	needRoot(t)
	t.Parallel()
	examples := map[string]string{
		"amazon-chroot": `{
  "type": "amazon-chroot",
  "access_key": "YOUR KEY HERE",
  "secret_key": "YOUR SECRET KEY HERE",
  "source_ami": "ami-e81d5881",
  "ami_name": "packer-amazon-chroot {{timestamp}}"
}`,
		"osc-chroot": `{
  "type": "osc-chroot",
  "access_key": "YOUR KEY HERE",
  "secret_key": "YOUR SECRET KEY HERE",
  "source_omi": "ami-3e158364",
  "omi_name": "packer-outscale-chroot {{timestamp}}"
}`,
	}
	for name, builder := range examples {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := newBox(t)
			b.stop()
			b.loopcloud("image", "import", "--dir", b.cloud, "--name", "second", "--id", "ami-3e158364", programs.root)
			template := b.write("template.json", `{"builders": [`+builder+`]}`)
			// what a user types: loopcloud run sets the environment, and the examples name
			// no region, which is then that of the metadata
			cmd := exec.Command(programs.loopcloud, "run", "--dir", b.cloud, "--",
				"env", "-u", "OSC_REGION", "-u", "AWS_REGION", "-u", "AWS_DEFAULT_REGION", programs.packer, "build", "-color=false", template)
			cmd.Dir = b.dir
			cmd.Env = slices.DeleteFunc(slices.Clone(b.env), func(e string) bool {
				return strings.HasPrefix(e, "AWS_") || strings.HasPrefix(e, "OSC_")
			})
			out, err := cmd.CombinedOutput()
			if err != nil {
				t.Fatalf("loopcloud run: %v\n%s", err, out)
			}
			b.serve()
			var names []string
			for _, img := range b.images() {
				names = append(names, img.Name)
			}
			if len(names) != 3 || !slices.ContainsFunc(names, func(n string) bool { return strings.HasPrefix(n, "packer-") }) {
				t.Errorf("the cloud holds %q\n%s", names, out)
			}
			if name == "osc-chroot" && !strings.Contains(string(out), "region "+region+", from the metadata service") {
				t.Errorf("the build does not say where its region is from:\n%s", out)
			}
		})
	}
}

func TestExamples(t *testing.T) {
	both(t, func(t *testing.T, f flavor) {
		b := newBox(t)
		out := b.build(filepath.Join(programs.repo, "examples", f.name, "basic.pkr.hcl"), "-var", "source="+sourceID)
		img := b.made()
		if want := "made from " + sourceID + " in " + region; img.Description != want {
			t.Errorf("description %q, want %q", img.Description, want)
		}
		if img.Tags["made-by"] != "packer" {
			t.Errorf("tags %v", img.Tags)
		}
		if got, want := strings.TrimSpace(b.content(b.disk(img.ID), "/etc/motd")), "built from "+sourceID+" with "+f.name; got != want {
			t.Errorf("/etc/motd holds %q, want %q", got, want)
		}
		var manifest struct {
			Builds []struct {
				ArtifactID string `json:"artifact_id"`
			} `json:"builds"`
		}
		if err := json.Unmarshal([]byte(read(filepath.Join(b.dir, f.name+".manifest.json"))), &manifest); err != nil {
			t.Fatal(err)
		}
		if len(manifest.Builds) != 1 || manifest.Builds[0].ArtifactID != region+":"+img.ID || !manifestID.MatchString(manifest.Builds[0].ArtifactID) {
			t.Errorf("the manifest says %+v, the image is %s", manifest, img.ID)
		}
		if !strings.Contains(out, region+": "+img.ID) {
			t.Errorf("the artifact is not shown:\n%s", out)
		}
	})
}

func TestProvisioners(t *testing.T) {
	both(t, func(t *testing.T, f flavor) {
		b := newBox(t)
		script := b.write("script.sh", "#!/bin/sh\necho \"script $WHO $(cat /etc/hostname)\" > /root/script\n")
		b.write("tree/a file", "spaces\n")
		b.write("tree/sub/b", "below\n")
		if err := os.Symlink("a file", filepath.Join(b.dir, "tree", "link")); err != nil {
			t.Fatal(err)
		}
		up := b.write("up", "uploaded\n")
		if err := os.Chmod(up, 0o640); err != nil {
			t.Fatal(err)
		}
		down, downDir := filepath.Join(b.dir, "down"), filepath.Join(b.dir, "downdir")+"/"
		out := b.build(b.template(f.basic(nil),
			shell("echo inline > /root/inline", "echo 'quoted $HOME `id`' > /root/quoted", `printf '%s' "$PACKER_BUILDER_TYPE" > /root/type`),
			map[string]any{"type": "shell", "script": script, "environment_vars": []string{"WHO=me & you"}},
			map[string]any{"type": "file", "source": up, "destination": "/root/with space/up"},
			map[string]any{"type": "file", "source": filepath.Join(b.dir, "tree"), "destination": "/root"},
			map[string]any{"type": "file", "source": filepath.Join(b.dir, "tree") + "/", "destination": "/root/content"},
			shell("mkdir -p /srv/out/deep", "echo 1 > /srv/out/one", "echo 2 > /srv/out/deep/two"),
			map[string]any{"type": "file", "direction": "download", "source": "/root/inline", "destination": down},
			map[string]any{"type": "file", "direction": "download", "source": "/srv/out/", "destination": downDir},
			map[string]any{"type": "shell-local", "inline": []string{"echo device={{build `Device`}} path={{build `MountPath`}} region={{build `BuildRegion`}} source={{build `Source" + strings.ToUpper(f.prefix) + "`}}"}},
			shell("exit 0"),
		))
		disk := b.disk(b.made().ID)
		for path, want := range map[string]string{
			"/root/inline":           "inline\n",
			"/root/quoted":           "quoted $HOME `id`\n",
			"/root/type":             f.name,
			"/root/script":           "script me & you busybox\n",
			`"/root/with space/up"`:  "uploaded\n",
			`"/root/tree/a file"`:    "spaces\n",
			"/root/tree/sub/b":       "below\n",
			`"/root/content/a file"`: "spaces\n",
		} {
			if got := b.content(disk, path); got != want {
				t.Errorf("%s holds %q, want %q", path, got, want)
			}
		}
		if stat := b.debugfs(disk, 1<<20, `stat "/root/with space/up"`); !strings.Contains(stat, "Mode:  0640") {
			t.Errorf("the mode was lost:\n%s", stat)
		}
		if stat := b.debugfs(disk, 1<<20, "stat /root/tree/link"); !strings.Contains(stat, "Type: symlink") {
			t.Errorf("the link is none:\n%s", stat)
		}
		if got := read(down); got != "inline\n" {
			t.Errorf("downloaded %q", got)
		}
		if one, two := read(downDir+"one"), read(downDir+"deep/two"); one != "1\n" || two != "2\n" {
			t.Errorf("downloaded %q and %q", one, two)
		}
		told := regexp.MustCompile(`device=/dev/xvd[a-z]+ path=/mnt/packer-amazon-chroot-volumes/xvd[a-z]+ region=` + region + ` source=` + sourceID)
		if !told.MatchString(out) {
			t.Errorf("shell-local was not told where the root is:\n%s", out)
		}
	})
}

func TestFailingProvisionerLeavesNothing(t *testing.T) {
	both(t, func(t *testing.T, f flavor) {
		b := newBox(t)
		before := b.inventory()
		b.fails(b.template(f.basic(nil), shell("echo about to fail", "exit 7")), "about to fail", "exit status: 7")
		b.unchanged(before)
	})
}

func TestCleanupProvisionerRuns(t *testing.T) {
	both(t, func(t *testing.T, f flavor) {
		b := newBox(t)
		template := b.write("template.json", fmt.Sprintf(`{"builders": [%s], "provisioners": [{"type": "shell", "inline": ["exit 3"]}],
			"error-cleanup-provisioner": {"type": "shell-local", "inline": ["echo cleaned > %s/cleaned"]}}`, toJSON(f.basic(nil)), b.dir))
		b.fails(template, "exit status: 3")
		if got := read(filepath.Join(b.dir, "cleaned")); got != "cleaned\n" {
			t.Errorf("the cleanup provisioner wrote %q", got)
		}
	})
}

func toJSON(v any) string {
	raw, _ := json.Marshal(v)
	return string(raw)
}

func TestAbortLeavesEverything(t *testing.T) {
	both(t, func(t *testing.T, f flavor) {
		b := newBox(t)
		mount := filepath.Join(b.dir, "mnt")
		template := b.template(f.basic(map[string]any{"mount_path": mount}), shell("echo kept > /root/kept", "exit 1"))
		out, err := b.packer("build", "-color=false", "-on-error=abort", template)
		if err == nil {
			t.Fatalf("the build succeeded:\n%s", out)
		}
		if got := read(filepath.Join(mount, "root/kept")); got != "kept\n" {
			t.Errorf("the mount is gone, or holds %q:\n%s", got, out)
		}
		for _, text := range []string{"vol-", mount} {
			if !strings.Contains(out, text) {
				t.Errorf("the message does not name what is left (%s):\n%s", text, out)
			}
		}
		// what a user does then
		if out, err := exec.Command("umount", "--recursive", mount).CombinedOutput(); err != nil {
			t.Fatalf("umount: %v\n%s", err, out)
		}
		b.detachAll()
		b.must(remove.All(filepath.Join(b.dir, "lock")))
	})
}

func TestDebugPausesBetweenSteps(t *testing.T) {
	both(t, func(t *testing.T, f flavor) {
		b := newBox(t)
		ctx, cancel := context.WithTimeout(context.Background(), deadline)
		defer cancel()
		// Packer asks on a terminal only: script(1) gives it one; its Enter key is \r
		line := fmt.Sprintf("exec %s build -color=false -debug %s", programs.packer, b.template(f.basic(nil)))
		cmd := exec.CommandContext(ctx, "script", "-qec", line, "/dev/null")
		cmd.Env, cmd.Dir = b.env, b.dir
		keys, err := cmd.StdinPipe()
		b.must(err)
		go func() {
			defer keys.Close()
			for ctx.Err() == nil {
				if _, err := io.WriteString(keys, "\r"); err != nil {
					return
				}
				time.Sleep(20 * time.Millisecond)
			}
		}()
		out, err := cmd.CombinedOutput()
		cancel()
		if err != nil {
			t.Fatalf("packer build -debug: %v\n%s", err, out)
		}
		if n := strings.Count(string(out), "Press enter to continue"); n < 5 {
			t.Errorf("paused %d times:\n%s", n, out)
		}
		b.clean()
		b.made()
	})
}

func TestValidateInspectOnlyVar(t *testing.T) {
	both(t, func(t *testing.T, f flavor) {
		b := newBox(t)
		example := filepath.Join(programs.repo, "examples", f.name, "basic.pkr.hcl")
		for _, args := range [][]string{
			{"validate", "-var", "source=" + sourceID, example},
			{"inspect", "-var", "source=" + sourceID, example},
		} {
			if out, err := b.packer(args...); err != nil {
				t.Errorf("packer %v: %v\n%s", args, err, out)
			}
		}
		if calls := b.calls(); len(calls) != 0 {
			t.Errorf("validate and inspect called the cloud: %v", calls)
		}
		two := fmt.Sprintf(`{"variables": {"name": "unset"}, "builders": [%s, %s]}`,
			toJSON(f.basic(map[string]any{"name": "first", "PREFIX_name": "{{user `name`}}"})),
			toJSON(f.basic(map[string]any{"name": "second", "PREFIX_name": "of the second"})))
		b.build(b.write("template.json", two), "-only=first", "-var", "name=from the command line")
		if name := b.made().Name; name != "from the command line" {
			t.Errorf("the image is %q", name)
		}
	})
}

// TestTwoAtOnce builds with both builders at the same time on one cloud, each
// leaving a mark.
func TestTwoAtOnce(t *testing.T) {
	needRoot(t)
	t.Parallel()
	b := newBox(t)
	var builders []string
	for _, f := range flavors {
		for i := range 2 {
			builders = append(builders, toJSON(f.basic(map[string]any{"name": fmt.Sprintf("%s-%d", f.name, i), "PREFIX_name": fmt.Sprintf("%s %d", f.name, i)})))
		}
	}
	b.build(b.write("template.json", `{"builders": [`+strings.Join(builders, ",")+`], "provisioners": [{"type": "shell", "inline": ["echo $PACKER_BUILD_NAME > /root/mark"]}]}`))
	seen := 0
	for _, img := range b.images() {
		if img.ID == sourceID {
			continue
		}
		seen++
		if mark := strings.TrimSpace(b.content(b.disk(img.ID), "/root/mark")); mark != strings.ReplaceAll(img.Name, " ", "-") {
			t.Errorf("image %q carries the mark of %q", img.Name, mark)
		}
	}
	if seen != 4 {
		t.Errorf("%d images, not 4", seen)
	}
}

// TestOneCloudBeneath builds with each builder from what the other one made: ids
// of either form are one state's.
func TestOneCloudBeneath(t *testing.T) {
	needRoot(t)
	t.Parallel()
	b := newBox(t)
	source := sourceID
	for i, f := range []flavor{flavors[1], flavors[0], flavors[1]} {
		name := fmt.Sprintf("generation %d", i)
		b.build(b.template(f.basic(map[string]any{"source_PREFIX": source, "PREFIX_name": name}), shell("echo "+f.name+" >> /root/line")))
		for _, img := range b.images() {
			if img.Name == name {
				source = img.ID
			}
		}
	}
	if got, want := b.content(b.disk(source), "/root/line"), "osc-chroot\namazon-chroot\nosc-chroot\n"; got != want {
		t.Errorf("the image holds %q, want %q", got, want)
	}
}

// TestSecretsAreNotPrinted: keys of the template are in no line of the log.
func TestSecretsAreNotPrinted(t *testing.T) {
	both(t, func(t *testing.T, f flavor) {
		b := newBox(t)
		b.env = append(b.env, "PACKER_LOG=1")
		for _, provisioner := range []string{"true", "false"} {
			out, _ := b.packer("build", "-color=false", b.template(f.basic(map[string]any{
				"access_key": keyID, "secret_key": secret, "PREFIX_name": "secret {{uuid}}",
			}), shell(provisioner)))
			if !strings.Contains(out, "Provisioning in /mnt/") {
				t.Errorf("there was no build:\n%s", out)
			}
			for _, line := range strings.Split(out, "\n") {
				if strings.Contains(line, secret) {
					t.Errorf("the log holds the secret key: %s", line)
				}
			}
		}
	})
}

// TestFaultsOfTheCloud: at the first call of every action the cloud itself fails, and the
// image is made and the old one replaced all the same.
func TestFaultsOfTheCloud(t *testing.T) {
	both(t, func(t *testing.T, f flavor) {
		b := newBox(t)
		template := b.template(f.basic(map[string]any{"force_deregister": true, "force_delete_snapshot": true}), shell("true"))
		b.build(template)
		b.calls()
		b.build(template)
		var rules []map[string]any
		ruled := map[string]bool{"imds": true}
		for _, c := range b.calls() {
			if action := c.Dialect + " " + c.Action; !ruled[c.Dialect] && !ruled[action] {
				ruled[action] = true
				rules = append(rules, map[string]any{"dialect": c.Dialect, "action": c.Action, "times": 1, "error": "internal"})
			}
		}
		before := len(b.inventory())
		out, ok, met := b.faulty(template, rules...)
		if !ok || !met || len(rules) < 10 {
			t.Errorf("built %v, met all of %v: %v\n%s", ok, rules, met, out)
		}
		b.clean()
		want(b, "things in the cloud", len(b.inventory()), before)
	})
}

// TestArtifactIsDestroyed: a post-processor that does not keep the image has it
// deleted, with its snapshot.
func TestArtifactIsDestroyed(t *testing.T) {
	both(t, func(t *testing.T, f flavor) {
		b := newBox(t)
		before := b.inventory()
		file := b.write("file", "in place of the image\n")
		out := b.build(b.write("template.json", fmt.Sprintf(`{"builders": [%s], "post-processors": [[
			{"type": "artifice", "files": [%q], "keep_input_artifact": false}]]}`, toJSON(f.basic(nil)), file)), "-force")
		if !strings.Contains(out, "image ami-") {
			t.Errorf("no image was made:\n%s", out)
		}
		b.unchanged(before)
	})
}
