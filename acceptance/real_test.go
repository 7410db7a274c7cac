package acceptance

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
)

// realClouds are the names that builders' clouds have for the real program.
var realClouds = map[string]string{"amazon-chroot": "aws", "osc-chroot": "osc"}

// real returns the program that runs a directory of templates on a real cloud, in the
// environment of the box. Arguments follow the options that tell it where things are.
func (b *box) real(args ...string) *exec.Cmd {
	beside := filepath.Dir(programs.loopcloud)
	cmd := exec.Command(filepath.Join(beside, "real"), append([]string{"-packer", programs.packer, "-plugins", beside}, args...)...)
	cmd.Env = append(slices.Clone(b.env), "REAL_BUDGET_TAG=CostCenter=1234", "REAL_SOURCE="+sourceID, "REAL_SECOND_REGION="+elsewhere, "REAL_OTHER_ACCOUNT="+otherAccount)
	cmd.Dir = b.dir
	return cmd
}

// realTemplates is a directory with one template, and the variables of a
// cloud's examples.
func (b *box) realTemplates(f flavor, head, provisioner string) string {
	b.t.Helper()
	shared := filepath.Join(programs.repo, "examples", "real", realClouds[f.name], "variables.pkr.hcl")
	b.write("templates/variables.pkr.hcl", read(shared))
	image := map[string]string{"amazon-chroot": "ami", "osc-chroot": "omi"}[f.name]
	b.write("templates/1-own.pkr.hcl", head+`
source "`+f.name+`" "own" {
  region           = var.region
  source_`+image+` = var.source
  `+image+`_name   = "${var.run} own"
  tags             = local.tags
  snapshot_tags    = local.tags
  root_volume_tags = local.tags
}

build {
  sources = ["source.`+f.name+`.own"]

  provisioner "shell" {
    inline = ["`+provisioner+`"]
  }
}
`)
	return filepath.Join(b.dir, "templates")
}

// bothRegions is the inventory, with the images in the other region.
func (b *box) bothRegions() []string {
	all := b.inventory()
	for _, image := range b.ownImages(elsewhere) {
		all = append(all, elsewhere+" "+*image.ImageId)
	}
	return all
}

// TestRealRefuses: a run without credentials, region, source image or budget tag fails before
// the first call, with a message that names each missing variable.
func TestRealRefuses(t *testing.T) {
	both(t, func(t *testing.T, f flavor) {
		b := newBox(t)
		cloud := realClouds[f.name]
		for _, missing := range []string{
			map[string]string{"aws": "AWS_SECRET_ACCESS_KEY", "osc": "OSC_SECRET_KEY"}[cloud], strings.ToUpper(cloud) + "_REGION", "REAL_SOURCE", "REAL_BUDGET_TAG",
		} {
			cmd := b.real(cloud, filepath.Join(programs.repo, "examples", "real", cloud))
			cmd.Env = append(cmd.Env, missing+"=")
			if out, err := cmd.CombinedOutput(); err == nil || !strings.Contains(string(out), missing) || strings.Contains(string(out), "CostCenter") {
				t.Errorf("without %s: %v\n%s", missing, err, out)
			}
		}
		cmd := b.real(cloud, filepath.Join(programs.repo, "examples", "real", cloud))
		cmd.Env = append(cmd.Env, "REAL_BUDGET_TAG=money")
		if out, err := cmd.CombinedOutput(); err == nil || !strings.Contains(string(out), `REAL_BUDGET_TAG is "money"`) {
			t.Errorf("%v\n%s", err, out)
		}
		if calls := b.calls(); len(calls) > 0 {
			t.Errorf("it makes calls: %v", calls)
		}
	})
}

// TestRealTemplates: Packer takes all templates of the checklist, with all variables.
func TestRealTemplates(t *testing.T) {
	both(t, func(t *testing.T, f flavor) {
		b := newBox(t)
		for name, value := range map[string]string{
			"run": "real-20260304-050607-abcd", "region": region, "budget_key": "CostCenter", "budget_value": "1234", "source": sourceID,
			"second_region": elsewhere, "kms_key": "alias/images", "second_kms_key": "alias/images", "other_account": otherAccount,
			"secure_boot_source": sourceID, "foreign_source": sourceID, "licensed_source": sourceID,
		} {
			b.env = append(b.env, "PKR_VAR_"+name+"="+value)
		}
		if out, err := b.packer("validate", filepath.Join(programs.repo, "examples", "real", realClouds[f.name])); err != nil {
			t.Errorf("%v\n%s", err, out)
		}
	})
}

// TestRealTargets: make passes its variables on to the program.
func TestRealTargets(t *testing.T) {
	needRoot(t)
	cmd := exec.Command("make", "-n", "real-osc", "ONLY=device,kill", "REPORT=a report", "CLEAN=real-1", "TEMPLATES=mine")
	cmd.Dir = programs.repo
	out, err := cmd.CombinedOutput()
	if want := `bin/real -only "device,kill" -report "a report" -clean "real-1" osc mine`; err != nil || !strings.Contains(flat(string(out)), want) {
		t.Errorf("%v, it should run %s:\n%s", err, want, out)
	}
}

// passes runs builds of the checklist, and checks that all passed, that the report has them,
// and that nothing of them is in the cloud. It returns the report.
func (b *box) passes(f flavor, only string, env ...string) string {
	b.t.Helper()
	before := b.bothRegions()
	cloud := realClouds[f.name]
	cmd := b.real("-report", "report", "-only", only, cloud, filepath.Join(programs.repo, "examples", "real", cloud))
	cmd.Env = append(cmd.Env, env...)
	out, err := cmd.CombinedOutput()
	report := read(filepath.Join(b.dir, "report", "report.md"))
	if err != nil {
		b.t.Fatalf("%v\n%s\n%s\n%s", err, out, report, b.realLogs())
	}
	b.emptyTmp() // of a Packer that was killed
	for _, text := range []string{strconv.Itoa(strings.Count(report, "| passed")) + " passed, 0 failed", "is left.", "estimated cost", "Removed: image ami-"} {
		if !strings.Contains(report, text) {
			b.t.Errorf("the report lacks %q:\n%s", text, report)
		}
	}
	if diff := cmp.Diff(before, b.bothRegions()); diff != "" {
		b.t.Errorf("the cloud is not as before (-before +after):\n%s", diff)
	}
	return report
}

// TestRealBuilds runs builds of the checklist, one of which lacks a variable and is skipped.
func TestRealBuilds(t *testing.T) {
	both(t, func(t *testing.T, f flavor) {
		only := map[string]string{
			"aws": "nitro,copy,sharing,tpm,imds,gp3,from-scratch,tags,force-deregister,spot-kill,deprecation,kms-key",
			"osc": "device,gp2,io1,sharing,boot-modes,tags,from-scratch,force-deregister,kill,product-codes",
		}[realClouds[f.name]]
		b := newBox(t, "--naming", "nvme")
		report := b.passes(f, only)
		if !strings.Contains(report, strconv.Itoa(strings.Count(only, ","))+" passed, 0 failed, 1 skipped") {
			t.Errorf("the report:\n%s", report)
		}
	})
}

// TestRealAccounts runs the builds that need something of the account.
func TestRealAccounts(t *testing.T) {
	both(t, func(t *testing.T, f flavor) {
		b := newBox(t, "--key", otherKeyID+":"+secret+":"+otherAccount)
		var only string
		var env []string
		if f.name == "amazon-chroot" {
			b.control("POST", "settings", map[string]any{"encrypt_by_default": true, "block_public_images": true}, nil)
			only = "default-encryption,kms-key,encrypted-copy,secure-boot,block-public-access"
			env = []string{
				"REAL_DEFAULT_ENCRYPTION=yes", "REAL_BLOCK_PUBLIC_ACCESS=yes", "REAL_KMS_KEY=alias/images", "REAL_SECOND_KMS_KEY=alias/images",
				"REAL_SECURE_BOOT_SOURCE=" + b.secured("secured"),
			}
		} else {
			licensed := b.foreign("licensed", true)
			_, err := b.outscaleAs(otherKeyID).UpdateImage(t.Context(), osc.UpdateImageRequest{ImageId: licensed, ProductCodes: &[]string{"0002"}})
			b.must(err)
			only = "foreign-source,product-codes"
			env = []string{"REAL_FOREIGN_SOURCE=" + b.foreign("foreign", false), "REAL_LICENSED_SOURCE=" + licensed}
		}
		report := b.passes(f, only, env...)
		if !strings.Contains(report, "0 failed, 0 skipped") {
			t.Errorf("the report:\n%s", report)
		}
	})
}

// realLogs are the logs of all builds of a run.
func (b *box) realLogs() string {
	var all strings.Builder
	logs, _ := filepath.Glob(filepath.Join(b.dir, "*", "*.log"))
	for _, log := range logs {
		all.WriteString(filepath.Base(log) + ":\n" + read(log))
	}
	return all.String()
}

// TestRealVerdicts: a build whose output lacks an expected line is reported as failed, and its
// resources are removed.
func TestRealVerdicts(t *testing.T) {
	both(t, func(t *testing.T, f flavor) {
		b := newBox(t)
		before := b.inventory()
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
			out, err := b.real("-report", dir, realClouds[f.name], b.realTemplates(f, test.head, test.command)).CombinedOutput()
			report := read(filepath.Join(b.dir, dir, "report.md"))
			if err == nil || !strings.Contains(report, "failed: ") || !strings.Contains(report, strings.ReplaceAll(test.says, "|", `\|`)) {
				t.Errorf("%s: %v, the report should say %q\n%s\n%s\n%s", test.name, err, test.says, out, report, b.realLogs())
			}
			b.unchanged(before)
		}
	})
}

// TestRealThrottled: a build beside throttled calls passes, and the report has their number.
func TestRealThrottled(t *testing.T) {
	both(t, func(t *testing.T, f flavor) {
		b := newBox(t)
		action := map[string]string{"amazon-chroot": "DescribeVolumes", "osc-chroot": "ReadVolumes"}[f.name]
		b.control("POST", "faults", map[string]any{"action": action, "error": "throttled", "times": 5}, nil)
		out, err := b.real("-report", "report", realClouds[f.name], b.realTemplates(f, "# Shows: it\n# Cost: 0.01\n# Flood: yes", "true")).CombinedOutput()
		report := read(filepath.Join(b.dir, "report", "report.md"))
		if err != nil || !strings.Contains(report, "calls beside the build were throttled") {
			t.Errorf("%v\n%s\n%s\n%s", err, out, report, b.realLogs())
		}
	})
}

// TestRealKept: resources kept by KEEP=yes are removed later by the id of the run.
func TestRealKept(t *testing.T) {
	both(t, func(t *testing.T, f flavor) {
		b := newBox(t)
		before := b.inventory()
		templates := b.realTemplates(f, "# Shows: it\n# Cost: 0.01", "true")
		out, err := b.real("-report", "report", "-keep", realClouds[f.name], templates).CombinedOutput()
		if report := read(filepath.Join(b.dir, "report", "report.md")); err != nil || !strings.Contains(report, "Not cleaned up") {
			t.Errorf("%v\n%s\n%s", err, out, report)
		}
		id := strings.TrimSpace(read(filepath.Join(b.dir, "report", "run")))
		for round, want := range []string{"removed image ami-", ""} {
			out, err := b.real("-clean", id, realClouds[f.name], templates).CombinedOutput()
			if err != nil || !strings.Contains(string(out), want) || want == "" && len(out) > 0 {
				t.Errorf("round %d: %v\n%s", round, err, out)
			}
			b.unchanged(before)
		}
	})
}

// TestRealInterrupted: after Ctrl-C, and after everything is killed and --clean, nothing is
// left: neither of the build that was under way nor of the ones before it.
func TestRealInterrupted(t *testing.T) {
	both(t, func(t *testing.T, f flavor) {
		b := newBox(t)
		before := b.inventory()
		for _, way := range []string{"SIGINT", "SIGKILL"} {
			t.Run(way, func(t *testing.T) {
				b := *b
				b.t = t
				templates := b.realTemplates(f, "# Shows: it\n# Cost: 0.01\n# Image: State = available", "echo at work")
				text := read(filepath.Join(templates, "1-own.pkr.hcl"))
				b.write("templates/2-slow.pkr.hcl", strings.NewReplacer(`"own"`, `"slow"`, ".own", ".slow", " own", " slow",
					"echo at work", "echo started; sleep 1000").Replace(text))
				cmd := b.real("-report", way, realClouds[f.name], templates)
				var out bytes.Buffer
				cmd.Stdout, cmd.Stderr = &out, &out
				b.must(cmd.Start())
				b.untilSlow(way, cmd, &out)
				if way == "SIGKILL" {
					b.killAll()
					_ = cmd.Wait()
					b.realCleans(way, f)
				} else {
					b.must(cmd.Process.Signal(os.Interrupt))
					if err := cmd.Wait(); err == nil {
						t.Error("it succeeds although it was interrupted")
					}
					if report := read(filepath.Join(b.dir, way, "report.md")); !strings.Contains(report, "1 passed, 1 failed") || !strings.Contains(report, "failed: interrupted") || !strings.Contains(report, "is left.") {
						t.Errorf("%s\n%s", report, &out)
					}
				}
				b.unchanged(before)
				b.clean()
			})
		}
	})
}

// untilSlow waits for the second build to be in its provisioner.
func (b *box) untilSlow(report string, cmd *exec.Cmd, out *bytes.Buffer) {
	b.t.Helper()
	for begun := time.Now(); ; time.Sleep(100 * time.Millisecond) {
		if strings.Contains(read(filepath.Join(b.dir, report, "2-slow-1.log")), "started") {
			return
		}
		if time.Since(begun) > deadline {
			_ = cmd.Process.Kill()
			b.t.Fatalf("the second build does not come to its provisioner:\n%s\n%s", out, b.realLogs())
		}
	}
}

// killAll kills all processes of the box's builds.
func (b *box) killAll() {
	files, _ := filepath.Glob("/proc/[0-9]*/environ")
	for _, f := range files {
		pid, err := strconv.Atoi(filepath.Base(filepath.Dir(f)))
		if err == nil && slices.Contains(strings.Split(read(f), "\x00"), b.marker) {
			_ = syscall.Kill(pid, syscall.SIGKILL)
		}
	}
	b.emptyTmp()
}

// realCleans cleans up after the run that was killed.
func (b *box) realCleans(dir string, f flavor) {
	b.t.Helper()
	report := read(filepath.Join(b.dir, dir, "report.md"))
	if !strings.Contains(report, "Not cleaned up") || !strings.Contains(report, "running") {
		b.t.Errorf("the report of a run that was killed:\n%s", report)
	}
	out, err := b.real("-clean", dir, realClouds[f.name], filepath.Join(b.dir, "templates")).CombinedOutput()
	if err != nil || !strings.Contains(string(out), "removed image ami-") {
		b.t.Errorf("%v\n%s", err, out)
	}
}
