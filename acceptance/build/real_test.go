package build

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/outscale/osc-sdk-go/v3/pkg/osc"

	"github.com/packer-chroot/packer-plugin-chroot/acceptance/harness"
)

// realClouds are the names that builders' clouds have for the real program.
var realClouds = map[string]string{"amazon-chroot": "aws", "osc-chroot": "osc"}

// realCommand returns the program that runs a directory of templates on a real cloud, in the environment of the box. The
// arguments follow the options with the paths.
func realCommand(b *harness.Box, args ...string) *exec.Cmd {
	beside := filepath.Dir(harness.Programs.Loopcloud)
	cmd := exec.Command(filepath.Join(beside, "real"), append([]string{"-packer", harness.Programs.Packer, "-plugins", beside}, args...)...)
	cmd.Env = append(slices.Clone(b.Env), "REAL_BUDGET_TAG=CostCenter=1234", "REAL_SOURCE="+harness.SourceID, "REAL_SECOND_REGION="+harness.Elsewhere, "REAL_OTHER_ACCOUNT="+harness.OtherAccount)
	cmd.Dir = b.Dir
	return cmd
}

// realTemplates is a directory with one template, and the variables of a
// cloud's examples.
func realTemplates(b *harness.Box, f harness.Flavor, head, provisioner string) string {
	b.Helper()
	shared := filepath.Join(harness.Programs.Repo, "examples", "real", realClouds[f.Name], "variables.pkr.hcl")
	b.Write("templates/variables.pkr.hcl", harness.Read(shared))
	image := map[string]string{"amazon-chroot": "ami", "osc-chroot": "omi"}[f.Name]
	b.Write("templates/1-own.pkr.hcl", head+`
source "`+f.Name+`" "own" {
  region           = var.region
  source_`+image+` = var.source
  `+image+`_name   = "${var.run} own"
  tags             = local.tags
  snapshot_tags    = local.tags
  root_volume_tags = local.tags
}

build {
  sources = ["source.`+f.Name+`.own"]

  provisioner "shell" {
    inline = ["`+provisioner+`"]
  }
}
`)
	return filepath.Join(b.Dir, "templates")
}

// bothRegions is the inventory, with the images in the other region.
func bothRegions(b *harness.Box) []string {
	all := b.Inventory()
	for _, image := range b.OwnImages(harness.Elsewhere) {
		all = append(all, harness.Elsewhere+" "+*image.ImageId)
	}
	return all
}

// TestRealRefuses checks that a run without credentials, region, source image or budget tag
// fails before the first call, with a message that names each missing variable.
func TestRealRefuses(t *testing.T) {
	harness.Both(t, func(t *testing.T, f harness.Flavor) {
		b := harness.New(t)
		cloud := realClouds[f.Name]
		for _, missing := range []string{
			map[string]string{"aws": "AWS_SECRET_ACCESS_KEY", "osc": "OSC_SECRET_KEY"}[cloud], strings.ToUpper(cloud) + "_REGION", "REAL_SOURCE", "REAL_BUDGET_TAG",
		} {
			cmd := realCommand(b, cloud, filepath.Join(harness.Programs.Repo, "examples", "real", cloud))
			cmd.Env = append(cmd.Env, missing+"=")
			if out, err := cmd.CombinedOutput(); err == nil || !strings.Contains(string(out), missing) || strings.Contains(string(out), "CostCenter") {
				t.Errorf("without %s: %v\n%s", missing, err, out)
			}
		}
		cmd := realCommand(b, cloud, filepath.Join(harness.Programs.Repo, "examples", "real", cloud))
		cmd.Env = append(cmd.Env, "REAL_BUDGET_TAG=money")
		if out, err := cmd.CombinedOutput(); err == nil || !strings.Contains(string(out), `REAL_BUDGET_TAG is "money"`) {
			t.Errorf("%v\n%s", err, out)
		}
		if calls := b.Calls(); len(calls) > 0 {
			t.Errorf("it makes calls: %v", calls)
		}
	})
}

// TestRealTemplates checks that Packer accepts all templates of the checklist, with all
// variables.
func TestRealTemplates(t *testing.T) {
	harness.Both(t, func(t *testing.T, f harness.Flavor) {
		b := harness.New(t)
		for name, value := range map[string]string{
			"run": "real-20260304-050607-abcd", "region": harness.Region, "budget_key": "CostCenter", "budget_value": "1234", "source": harness.SourceID,
			"second_region": harness.Elsewhere, "kms_key": "alias/images", "second_kms_key": "alias/images", "other_account": harness.OtherAccount,
			"secure_boot_source": harness.SourceID, "foreign_source": harness.SourceID, "licensed_source": harness.SourceID,
		} {
			b.Env = append(b.Env, "PKR_VAR_"+name+"="+value)
		}
		if out, err := b.Packer("validate", filepath.Join(harness.Programs.Repo, "examples", "real", realClouds[f.Name])); err != nil {
			t.Errorf("%v\n%s", err, out)
		}
	})
}

// TestRealTargets checks that the make targets pass their variables to the program.
func TestRealTargets(t *testing.T) {
	harness.NeedRoot(t)
	cmd := exec.Command("make", "-n", "real-osc", "ONLY=device,kill", "REPORT=a report", "CLEAN=real-1", "TEMPLATES=mine")
	cmd.Dir = harness.Programs.Repo
	out, err := cmd.CombinedOutput()
	if want := `bin/real -only "device,kill" -report "a report" -clean "real-1" osc mine`; err != nil || !strings.Contains(harness.Flat(string(out)), want) {
		t.Errorf("%v, it should run %s:\n%s", err, want, out)
	}
}

// passes runs builds of the checklist, and checks that all passed, that the report has them,
// and that nothing of them is in the cloud. It returns the report.
func passes(b *harness.Box, f harness.Flavor, only string, env ...string) string {
	b.Helper()
	before := bothRegions(b)
	cloud := realClouds[f.Name]
	cmd := realCommand(b, "-report", "report", "-only", only, cloud, filepath.Join(harness.Programs.Repo, "examples", "real", cloud))
	cmd.Env = append(cmd.Env, env...)
	out, err := cmd.CombinedOutput()
	report := harness.Read(filepath.Join(b.Dir, "report", "report.md"))
	if err != nil {
		b.Fatalf("%v\n%s\n%s\n%s", err, out, report, realLogs(b))
	}
	b.EmptyTmp() // of a Packer that was killed
	for _, text := range []string{strconv.Itoa(strings.Count(report, "| passed")) + " passed, 0 failed", "is left.", "estimated cost", "Removed: image ami-"} {
		if !strings.Contains(report, text) {
			b.Errorf("the report lacks %q:\n%s", text, report)
		}
	}
	if diff := cmp.Diff(before, bothRegions(b)); diff != "" {
		b.Errorf("the cloud is not as before (-before +after):\n%s", diff)
	}
	return report
}

// TestRealBuilds runs builds of the checklist, one of which lacks a variable and is skipped.
func TestRealBuilds(t *testing.T) {
	harness.Both(t, func(t *testing.T, f harness.Flavor) {
		only := map[string]string{
			"aws": "nitro,copy,sharing,tpm,imds,gp3,from-scratch,tags,force-deregister,spot-kill,deprecation,kms-key",
			"osc": "device,gp2,io1,sharing,boot-modes,tags,from-scratch,force-deregister,kill,product-codes",
		}[realClouds[f.Name]]
		b := harness.New(t, "--naming", "nvme")
		report := passes(b, f, only)
		if !strings.Contains(report, strconv.Itoa(strings.Count(only, ","))+" passed, 0 failed, 1 skipped") {
			t.Errorf("the report:\n%s", report)
		}
	})
}

// TestRealAccounts runs the builds that need something of the account.
func TestRealAccounts(t *testing.T) {
	harness.Both(t, func(t *testing.T, f harness.Flavor) {
		b := harness.New(t, "--key", harness.OtherKeyID+":"+harness.Secret+":"+harness.OtherAccount)
		var only string
		var env []string
		if f.Name == "amazon-chroot" {
			b.Control("POST", "settings", map[string]any{"encrypt_by_default": true, "block_public_images": true}, nil)
			only = "default-encryption,kms-key,encrypted-copy,secure-boot,block-public-access"
			env = []string{
				"REAL_DEFAULT_ENCRYPTION=yes", "REAL_BLOCK_PUBLIC_ACCESS=yes", "REAL_KMS_KEY=alias/images", "REAL_SECOND_KMS_KEY=alias/images",
				"REAL_SECURE_BOOT_SOURCE=" + b.SecureBootImage("secured"),
			}
		} else {
			licensed := b.ForeignImage("licensed", true)
			_, err := b.OutscaleAs(harness.OtherKeyID).UpdateImage(t.Context(), osc.UpdateImageRequest{ImageId: licensed, ProductCodes: &[]string{"0002"}})
			b.Must(err)
			only = "foreign-source,product-codes"
			env = []string{"REAL_FOREIGN_SOURCE=" + b.ForeignImage("foreign", false), "REAL_LICENSED_SOURCE=" + licensed}
		}
		report := passes(b, f, only, env...)
		if !strings.Contains(report, "0 failed, 0 skipped") {
			t.Errorf("the report:\n%s", report)
		}
	})
}

// realLogs are the logs of all builds of a run.
func realLogs(b *harness.Box) string {
	var all strings.Builder
	logs, _ := filepath.Glob(filepath.Join(b.Dir, "*", "*.log"))
	for _, log := range logs {
		all.WriteString(filepath.Base(log) + ":\n" + harness.Read(log))
	}
	return all.String()
}

// TestRealVerdicts checks that a build whose output lacks an expected line is reported as failed, and that its
// resources are removed.
func TestRealVerdicts(t *testing.T) {
	harness.Both(t, func(t *testing.T, f harness.Flavor) {
		b := harness.New(t)
		before := b.Inventory()
		for n, test := range []struct{ name, head, command, says string }{
			{"another image", "# Shows: it\n# Cost: 0.01\n# Image: State = green", "true", `image State is "available", and should be "green"`},
			{"another output", "# Shows: it\n# Cost: 0.01\n# Says: hello moon", "echo hello world", `the output lacks "hello moon"`},
			{"too much", "# Shows: it\n# Cost: 0.01\n# Lacks: hello world", "echo hello world", `the output has "hello world"`},
			{"a failure", "# Shows: it\n# Cost: 0.01", "false", "exit status 1"},
			{"no failure", "# Shows: it\n# Cost: 0.01\n# Fails: by design", "true", "the build succeeded, and should have failed"},
			{"not killed", "# Shows: it\n# Cost: 0.01\n# Kill: now", "true", `the build ended before it said "now"`},
			{"not throttled", "# Shows: it\n# Cost: 0.01\n# Flood: yes", "true", "the account was not throttled"},
			{"no copy", "# Shows: it\n# Cost: 0.01\n# Copy: State = available", "true", "there is no copy"},
		} {
			dir := fmt.Sprint("report", n)
			out, err := realCommand(b, "-report", dir, realClouds[f.Name], realTemplates(b, f, test.head, test.command)).CombinedOutput()
			report := harness.Read(filepath.Join(b.Dir, dir, "report.md"))
			if err == nil || !strings.Contains(report, "failed: ") || !strings.Contains(report, strings.ReplaceAll(test.says, "|", `\|`)) {
				t.Errorf("%s: %v, the report should say %q\n%s\n%s\n%s", test.name, err, test.says, out, report, realLogs(b))
			}
			b.Unchanged(before)
		}
	})
}

// TestRealThrottled checks that a build passes while other calls are throttled, and that the
// report counts the throttled calls.
func TestRealThrottled(t *testing.T) {
	harness.Both(t, func(t *testing.T, f harness.Flavor) {
		b := harness.New(t)
		action := map[string]string{"amazon-chroot": "DescribeVolumes", "osc-chroot": "ReadVolumes"}[f.Name]
		b.Control("POST", "faults", map[string]any{"action": action, "error": "throttled", "times": 5}, nil)
		out, err := realCommand(b, "-report", "report", realClouds[f.Name], realTemplates(b, f, "# Shows: it\n# Cost: 0.01\n# Flood: yes", "true")).CombinedOutput()
		report := harness.Read(filepath.Join(b.Dir, "report", "report.md"))
		if err != nil || !strings.Contains(report, "calls beside the build were throttled") {
			t.Errorf("%v\n%s\n%s\n%s", err, out, report, realLogs(b))
		}
	})
}

// TestRealKept checks that resources kept by KEEP=yes can be removed later by the run's ID.
func TestRealKept(t *testing.T) {
	harness.Both(t, func(t *testing.T, f harness.Flavor) {
		b := harness.New(t)
		before := b.Inventory()
		templates := realTemplates(b, f, "# Shows: it\n# Cost: 0.01", "true")
		out, err := realCommand(b, "-report", "report", "-keep", realClouds[f.Name], templates).CombinedOutput()
		if report := harness.Read(filepath.Join(b.Dir, "report", "report.md")); err != nil || !strings.Contains(report, "Not cleaned up") {
			t.Errorf("%v\n%s\n%s", err, out, report)
		}
		id := strings.TrimSpace(harness.Read(filepath.Join(b.Dir, "report", "run")))
		for round, want := range []string{"removed image ami-", ""} {
			out, err := realCommand(b, "-clean", id, realClouds[f.Name], templates).CombinedOutput()
			if err != nil || !strings.Contains(string(out), want) || want == "" && len(out) > 0 {
				t.Errorf("round %d: %v\n%s", round, err, out)
			}
			b.Unchanged(before)
		}
	})
}

// TestRealInterrupted checks that nothing remains after Ctrl-C, or after a kill followed by
// --clean, neither of the interrupted build nor of earlier ones.
func TestRealInterrupted(t *testing.T) {
	harness.Both(t, func(t *testing.T, f harness.Flavor) {
		b := harness.New(t)
		before := b.Inventory()
		for _, way := range []string{"SIGINT", "SIGKILL"} {
			t.Run(way, func(t *testing.T) {
				b := b.In(t)
				templates := realTemplates(b, f, "# Shows: it\n# Cost: 0.01\n# Image: State = available", "echo at work")
				text := harness.Read(filepath.Join(templates, "1-own.pkr.hcl"))
				b.Write("templates/2-slow.pkr.hcl", strings.NewReplacer(`"own"`, `"slow"`, ".own", ".slow", " own", " slow",
					"echo at work", "echo started; sleep 1000").Replace(text))
				cmd := realCommand(b, "-report", way, realClouds[f.Name], templates)
				var out bytes.Buffer
				cmd.Stdout, cmd.Stderr = &out, &out
				b.Must(cmd.Start())
				untilSlow(b, way, cmd, &out)
				if way == "SIGKILL" {
					killAll(b)
					_ = cmd.Wait()
					realCleans(b, way, f)
				} else {
					b.Must(cmd.Process.Signal(os.Interrupt))
					if err := cmd.Wait(); err == nil {
						t.Error("it succeeds although it was interrupted")
					}
					if report := harness.Read(filepath.Join(b.Dir, way, "report.md")); !strings.Contains(report, "1 passed, 1 failed") || !strings.Contains(report, "failed: interrupted") || !strings.Contains(report, "is left.") {
						t.Errorf("%s\n%s", report, &out)
					}
				}
				b.Unchanged(before)
				b.Clean()
			})
		}
	})
}

// untilSlow waits for the second build to be in its provisioner.
func untilSlow(b *harness.Box, report string, cmd *exec.Cmd, out *bytes.Buffer) {
	b.Helper()
	for begun := time.Now(); ; time.Sleep(100 * time.Millisecond) {
		if strings.Contains(harness.Read(filepath.Join(b.Dir, report, "2-slow-1.log")), "started") {
			return
		}
		if time.Since(begun) > harness.Deadline {
			_ = cmd.Process.Kill()
			b.Fatalf("the second build does not come to its provisioner:\n%s\n%s", out, realLogs(b))
		}
	}
}

// killAll kills all processes of the box's builds.
func killAll(b *harness.Box) {
	for _, pid := range harness.PidsWith(b.Marker) {
		_ = syscall.Kill(pid, syscall.SIGKILL)
	}
	b.EmptyTmp()
}

// realCleans cleans up after the run that was killed.
func realCleans(b *harness.Box, dir string, f harness.Flavor) {
	b.Helper()
	report := harness.Read(filepath.Join(b.Dir, dir, "report.md"))
	if !strings.Contains(report, "Not cleaned up") || !strings.Contains(report, "running") {
		b.Errorf("the report of a run that was killed:\n%s", report)
	}
	out, err := realCommand(b, "-clean", dir, realClouds[f.Name], filepath.Join(b.Dir, "templates")).CombinedOutput()
	if err != nil || !strings.Contains(string(out), "removed image ami-") {
		b.Errorf("%v\n%s", err, out)
	}
}
