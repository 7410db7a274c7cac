package build

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

	"github.com/packer-chroot/packer-plugin-chroot/acceptance/harness"
)

var manifestID = regexp.MustCompile(`^[a-z0-9-]+:ami-[0-9a-f]{8,17}$`)

func TestReferenceBasicExamples(t *testing.T) {
	harness.NeedRoot(t)
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
			b := harness.New(t)
			b.Stop()
			b.Loopcloud("image", "import", "--dir", b.Store, "--name", "second", "--id", "ami-3e158364", harness.Programs.Root)
			template := b.Write("template.json", `{"builders": [`+builder+`]}`)
			// loopcloud run sets the environment, as for a user. The examples name no region, so the region comes from
			// the metadata.
			cmd := exec.Command(harness.Programs.Loopcloud, "run", "--dir", b.Store, "--",
				"env", "-u", "OSC_REGION", "-u", "AWS_REGION", "-u", "AWS_DEFAULT_REGION", harness.Programs.Packer, "build", "-color=false", template)
			cmd.Dir = b.Dir
			cmd.Env = slices.DeleteFunc(slices.Clone(b.Env), func(e string) bool {
				return strings.HasPrefix(e, "AWS_") || strings.HasPrefix(e, "OSC_")
			})
			out, err := cmd.CombinedOutput()
			if err != nil {
				t.Fatalf("loopcloud run: %v\n%s", err, out)
			}
			b.Serve()
			var names []string
			for _, img := range b.Images() {
				names = append(names, img.Name)
			}
			if len(names) != 3 || !slices.ContainsFunc(names, func(n string) bool { return strings.HasPrefix(n, "packer-") }) {
				t.Errorf("the cloud holds %q\n%s", names, out)
			}
			if name == "osc-chroot" && !strings.Contains(string(out), "region "+harness.Region+", from the metadata service") {
				t.Errorf("the build does not say where its region is from:\n%s", out)
			}
		})
	}
}

func TestBasicExamples(t *testing.T) {
	harness.Both(t, func(t *testing.T, f harness.Flavor) {
		b := harness.New(t)
		out := b.Build(filepath.Join(harness.Programs.Repo, "examples", f.Name, "basic.pkr.hcl"), "-var", "source="+harness.SourceID)
		img := b.Made()
		if want := "made from " + harness.SourceID + " in " + harness.Region; img.Description != want {
			t.Errorf("description %q, want %q", img.Description, want)
		}
		if img.Tags["made-by"] != "packer" {
			t.Errorf("tags %v", img.Tags)
		}
		if got, want := strings.TrimSpace(b.Content(b.Disk(img.ID), "/etc/motd")), "built from "+harness.SourceID+" with "+f.Name; got != want {
			t.Errorf("/etc/motd holds %q, want %q", got, want)
		}
		var manifest struct {
			Builds []struct {
				ArtifactID string `json:"artifact_id"`
			} `json:"builds"`
		}
		if err := json.Unmarshal([]byte(harness.Read(filepath.Join(b.Dir, f.Name+".manifest.json"))), &manifest); err != nil {
			t.Fatal(err)
		}
		if len(manifest.Builds) != 1 || manifest.Builds[0].ArtifactID != harness.Region+":"+img.ID || !manifestID.MatchString(manifest.Builds[0].ArtifactID) {
			t.Errorf("the manifest says %+v, the image is %s", manifest, img.ID)
		}
		if !strings.Contains(out, harness.Region+": "+img.ID) {
			t.Errorf("the artifact is not shown:\n%s", out)
		}
	})
}

func TestProvisioners(t *testing.T) {
	harness.Both(t, func(t *testing.T, f harness.Flavor) {
		b := harness.New(t)
		script := b.Write("script.sh", "#!/bin/sh\necho \"script $WHO $(cat /etc/hostname)\" > /root/script\n")
		b.Write("tree/a file", "spaces\n")
		b.Write("tree/sub/b", "below\n")
		if err := os.Symlink("a file", filepath.Join(b.Dir, "tree", "link")); err != nil {
			t.Fatal(err)
		}
		up := b.Write("up", "uploaded\n")
		if err := os.Chmod(up, 0o640); err != nil {
			t.Fatal(err)
		}
		down, downDir := filepath.Join(b.Dir, "down"), filepath.Join(b.Dir, "downdir")+"/"
		out := b.Build(b.Template(f.Basic(nil),
			harness.Shell("echo inline > /root/inline", "echo 'quoted $HOME `id`' > /root/quoted", `printf '%s' "$PACKER_BUILDER_TYPE" > /root/type`),
			map[string]any{"type": "shell", "script": script, "environment_vars": []string{"WHO=me & you"}},
			map[string]any{"type": "file", "source": up, "destination": "/root/with space/up"},
			map[string]any{"type": "file", "source": filepath.Join(b.Dir, "tree"), "destination": "/root"},
			map[string]any{"type": "file", "source": filepath.Join(b.Dir, "tree") + "/", "destination": "/root/content"},
			harness.Shell("mkdir -p /srv/out/deep", "echo 1 > /srv/out/one", "echo 2 > /srv/out/deep/two"),
			map[string]any{"type": "file", "direction": "download", "source": "/root/inline", "destination": down},
			map[string]any{"type": "file", "direction": "download", "source": "/srv/out/", "destination": downDir},
			map[string]any{"type": "shell-local", "inline": []string{"echo device={{build `Device`}} path={{build `MountPath`}} region={{build `BuildRegion`}} source={{build `Source" + strings.ToUpper(f.Prefix) + "`}}"}},
			harness.Shell("exit 0"),
		))
		disk := b.Disk(b.Made().ID)
		for path, want := range map[string]string{
			"/root/inline":           "inline\n",
			"/root/quoted":           "quoted $HOME `id`\n",
			"/root/type":             f.Name,
			"/root/script":           "script me & you busybox\n",
			`"/root/with space/up"`:  "uploaded\n",
			`"/root/tree/a file"`:    "spaces\n",
			"/root/tree/sub/b":       "below\n",
			`"/root/content/a file"`: "spaces\n",
		} {
			if got := b.Content(disk, path); got != want {
				t.Errorf("%s holds %q, want %q", path, got, want)
			}
		}
		if stat := b.Debugfs(disk, 1<<20, `stat "/root/with space/up"`); !strings.Contains(stat, "Mode:  0640") {
			t.Errorf("the mode was lost:\n%s", stat)
		}
		if stat := b.Debugfs(disk, 1<<20, "stat /root/tree/link"); !strings.Contains(stat, "Type: symlink") {
			t.Errorf("the link is none:\n%s", stat)
		}
		if got := harness.Read(down); got != "inline\n" {
			t.Errorf("downloaded %q", got)
		}
		if one, two := harness.Read(downDir+"one"), harness.Read(downDir+"deep/two"); one != "1\n" || two != "2\n" {
			t.Errorf("downloaded %q and %q", one, two)
		}
		told := regexp.MustCompile(`device=/dev/xvd[a-z]+ path=/mnt/packer-amazon-chroot-volumes/xvd[a-z]+ region=` + harness.Region + ` source=` + harness.SourceID)
		if !told.MatchString(out) {
			t.Errorf("shell-local was not told where the root is:\n%s", out)
		}
	})
}

func TestFailingProvisionerLeavesNothing(t *testing.T) {
	harness.Both(t, func(t *testing.T, f harness.Flavor) {
		b := harness.New(t)
		before := b.Inventory()
		b.Fails(b.Template(f.Basic(nil), harness.Shell("echo about to fail", "exit 7")), "about to fail", "exit status: 7")
		b.Unchanged(before)
	})
}

func TestCleanupProvisionerRuns(t *testing.T) {
	harness.Both(t, func(t *testing.T, f harness.Flavor) {
		b := harness.New(t)
		template := b.Write("template.json", fmt.Sprintf(`{"builders": [%s], "provisioners": [{"type": "shell", "inline": ["exit 3"]}],
			"error-cleanup-provisioner": {"type": "shell-local", "inline": ["echo cleaned > %s/cleaned"]}}`, harness.ToJSON(f.Basic(nil)), b.Dir))
		b.Fails(template, "exit status: 3")
		if got := harness.Read(filepath.Join(b.Dir, "cleaned")); got != "cleaned\n" {
			t.Errorf("the cleanup provisioner wrote %q", got)
		}
	})
}

func TestAbortLeavesEverything(t *testing.T) {
	harness.Both(t, func(t *testing.T, f harness.Flavor) {
		b := harness.New(t)
		mount := filepath.Join(b.Dir, "mnt")
		template := b.Template(f.Basic(map[string]any{"mount_path": mount}), harness.Shell("echo kept > /root/kept", "exit 1"))
		out, err := b.Packer("build", "-color=false", "-on-error=abort", template)
		if err == nil {
			t.Fatalf("the build succeeded:\n%s", out)
		}
		if got := harness.Read(filepath.Join(mount, "root/kept")); got != "kept\n" {
			t.Errorf("the mount is gone, or holds %q:\n%s", got, out)
		}
		for _, text := range []string{"vol-", mount} {
			if !strings.Contains(out, text) {
				t.Errorf("the message does not name what is left (%s):\n%s", text, out)
			}
		}
		// clean up as the user does
		if out, err := exec.Command("umount", "--recursive", mount).CombinedOutput(); err != nil {
			t.Fatalf("umount: %v\n%s", err, out)
		}
		b.DetachAll()
		b.Reservations.Remove()
	})
}

func TestDebugPausesBetweenSteps(t *testing.T) {
	harness.Both(t, func(t *testing.T, f harness.Flavor) {
		b := harness.New(t)
		ctx, cancel := context.WithTimeout(context.Background(), harness.Deadline)
		defer cancel()
		// Packer asks on a terminal only: script(1) gives it one; its Enter key is \r
		line := fmt.Sprintf("exec %s build -color=false -debug %s", harness.Programs.Packer, b.Template(f.Basic(nil)))
		cmd := exec.CommandContext(ctx, "script", "-qec", line, "/dev/null")
		cmd.Env, cmd.Dir = b.Env, b.Dir
		keys, err := cmd.StdinPipe()
		b.Must(err)
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
		b.Clean()
		b.Made()
	})
}

func TestValidateInspectOnlyVar(t *testing.T) {
	harness.Both(t, func(t *testing.T, f harness.Flavor) {
		b := harness.New(t)
		example := filepath.Join(harness.Programs.Repo, "examples", f.Name, "basic.pkr.hcl")
		for _, args := range [][]string{
			{"validate", "-var", "source=" + harness.SourceID, example},
			{"inspect", "-var", "source=" + harness.SourceID, example},
		} {
			if out, err := b.Packer(args...); err != nil {
				t.Errorf("packer %v: %v\n%s", args, err, out)
			}
		}
		if calls := b.Calls(); len(calls) != 0 {
			t.Errorf("validate and inspect called the cloud: %v", calls)
		}
		two := fmt.Sprintf(`{"variables": {"name": "unset"}, "builders": [%s, %s]}`,
			harness.ToJSON(f.Basic(map[string]any{"name": "first", "PREFIX_name": "{{user `name`}}"})),
			harness.ToJSON(f.Basic(map[string]any{"name": "second", "PREFIX_name": "of the second"})))
		b.Build(b.Write("template.json", two), "-only=first", "-var", "name=from the command line")
		if name := b.Made().Name; name != "from the command line" {
			t.Errorf("the image is %q", name)
		}
	})
}

// TestFourBuildersInParallel builds with both builders at the same time on one cloud, each
// leaving a mark.
func TestFourBuildersInParallel(t *testing.T) {
	harness.NeedRoot(t)
	t.Parallel()
	b := harness.New(t)
	var builders []string
	for _, f := range harness.Flavors {
		for i := range 2 {
			builders = append(builders, harness.ToJSON(f.Basic(map[string]any{"name": fmt.Sprintf("%s-%d", f.Name, i), "PREFIX_name": fmt.Sprintf("%s %d", f.Name, i)})))
		}
	}
	b.Build(b.Write("template.json", `{"builders": [`+strings.Join(builders, ",")+`], "provisioners": [{"type": "shell", "inline": ["echo $PACKER_BUILD_NAME > /root/mark"]}]}`))
	seen := 0
	for _, img := range b.Images() {
		if img.ID == harness.SourceID {
			continue
		}
		seen++
		if mark := strings.TrimSpace(b.Content(b.Disk(img.ID), "/root/mark")); mark != strings.ReplaceAll(img.Name, " ", "-") {
			t.Errorf("image %q carries the mark of %q", img.Name, mark)
		}
	}
	if seen != 4 {
		t.Errorf("%d images, not 4", seen)
	}
}

// TestBuildersShareOneCloud builds with each builder from an image of the other one. The cloud accepts IDs in both
// formats.
func TestBuildersShareOneCloud(t *testing.T) {
	harness.NeedRoot(t)
	t.Parallel()
	b := harness.New(t)
	source := harness.SourceID
	for i, f := range []harness.Flavor{harness.Flavors[1], harness.Flavors[0], harness.Flavors[1]} {
		name := fmt.Sprintf("generation %d", i)
		b.Build(b.Template(f.Basic(map[string]any{"source_PREFIX": source, "PREFIX_name": name}), harness.Shell("echo "+f.Name+" >> /root/line")))
		for _, img := range b.Images() {
			if img.Name == name {
				source = img.ID
			}
		}
	}
	if got, want := b.Content(b.Disk(source), "/root/line"), "osc-chroot\namazon-chroot\nosc-chroot\n"; got != want {
		t.Errorf("the image holds %q, want %q", got, want)
	}
}

// TestSecretsAreNotPrinted checks that keys of the template are in no line of the log.
func TestSecretsAreNotPrinted(t *testing.T) {
	harness.Both(t, func(t *testing.T, f harness.Flavor) {
		b := harness.New(t)
		b.Env = append(b.Env, "PACKER_LOG=1")
		for _, provisioner := range []string{"true", "false"} {
			out, _ := b.Packer("build", "-color=false", b.Template(f.Basic(map[string]any{
				"access_key": harness.KeyID, "secret_key": harness.Secret, "PREFIX_name": "secret {{uuid}}",
			}), harness.Shell(provisioner)))
			if !strings.Contains(out, "Provisioning in /mnt/") {
				t.Errorf("there was no build:\n%s", out)
			}
			for _, line := range strings.Split(out, "\n") {
				if strings.Contains(line, harness.Secret) {
					t.Errorf("the log holds the secret key: %s", line)
				}
			}
		}
	})
}

// TestArtifactIsDestroyed checks that the image and its snapshot are deleted if a
// post-processor does not keep the image.
func TestArtifactIsDestroyed(t *testing.T) {
	harness.Both(t, func(t *testing.T, f harness.Flavor) {
		b := harness.New(t)
		before := b.Inventory()
		file := b.Write("file", "in place of the image\n")
		out := b.Build(b.Write("template.json", fmt.Sprintf(`{"builders": [%s], "post-processors": [[
			{"type": "artifice", "files": [%q], "keep_input_artifact": false}]]}`, harness.ToJSON(f.Basic(nil)), file)), "-force")
		if !strings.Contains(out, "image ami-") {
			t.Errorf("no image was made:\n%s", out)
		}
		b.Unchanged(before)
	})
}
