package loopcloud

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/packer-chroot/packer-plugin-chroot/acceptance/harness"
	"github.com/packer-chroot/packer-plugin-chroot/loopcloud/ebs"
	"github.com/packer-chroot/packer-plugin-chroot/loopcloud/ec2"
	"github.com/packer-chroot/packer-plugin-chroot/loopcloud/sigv4"
	"github.com/packer-chroot/packer-plugin-chroot/loopcloud/state"
	"github.com/packer-chroot/packer-plugin-chroot/loopcloud/state/statetest"
	"github.com/packer-chroot/packer-plugin-chroot/testdir"
)

// awscli is the AWS CLI on an EC2 endpoint of the test's own, with disks without bytes. It tests that CLI and cloud
// understand each other.
type awscli struct {
	t       *testing.T
	program string
	args    []string
	service string
	env     []string
}

// with returns the same CLI with the commands of another service.
func (a awscli) with(service string) *awscli {
	a.service = service
	return &a
}

func newAWSCLI(t *testing.T) *awscli {
	t.Helper()
	return newAWSCLIOf(t, statetest.NewDisks())
}

// newAWSCLIOf is the AWS CLI on a cloud with these disks.
func newAWSCLIOf(t *testing.T, disks state.Disks) *awscli {
	t.Helper()
	t.Parallel() // most of the time is the CLI's start
	program, err := findAWS()
	if err != nil && !harness.CI {
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	st, err := state.Open(state.Config{
		Dir: testdir.New(t), Disks: disks, Keys: []state.Key{{ID: harness.KeyID, Secret: harness.Secret}}, DefaultRegion: harness.Region,
	})
	if err != nil {
		t.Fatal(err)
	}
	apis := http.NewServeMux()
	apis.Handle("/", ec2.New(st, sigv4.NewAuthorizer(st)))
	apis.Handle(ebs.Path+"/", ebs.New(st, sigv4.NewAuthorizer(st)))
	apis.Handle(ebs.Path, ebs.New(st, sigv4.NewAuthorizer(st)))
	server := httptest.NewServer(apis)
	t.Cleanup(func() {
		server.Close()
		if err := st.Close(); err != nil {
			t.Error(err)
		}
	})
	return &awscli{t: t, program: program, args: []string{"--endpoint-url", server.URL, "--output", "text"}, service: "ec2", env: []string{
		"HOME=" + testdir.New(t), "PATH=" + os.Getenv("PATH"), "AWS_PAGER=", "AWS_EC2_METADATA_DISABLED=true", "AWS_MAX_ATTEMPTS=1",
		"AWS_DEFAULT_REGION=" + harness.Region, "AWS_ACCESS_KEY_ID=" + harness.KeyID, "AWS_SECRET_ACCESS_KEY=" + harness.Secret, "NO_PROXY=127.0.0.1",
	}}
}

// findAWS finds version 2 of the AWS CLI: Debian's, or the one on the PATH.
func findAWS() (string, error) {
	for _, name := range []string{"/usr/bin/aws", "aws"} {
		out, err := exec.Command(name, "--version").CombinedOutput()
		if err == nil && strings.HasPrefix(string(out), "aws-cli/2") {
			return name, nil
		}
	}
	return "", fmt.Errorf("no AWS CLI of version 2 (Debian's package awscli)")
}

func (a *awscli) run(args ...string) (string, error) {
	cmd := exec.Command(a.program, slices.Concat(a.args, []string{a.service}, args)...)
	cmd.Env = a.env
	out, err := cmd.CombinedOutput()
	return strings.TrimSpace(string(out)), err
}

// does returns the output of a command that must succeed.
func (a *awscli) does(args ...string) string {
	a.t.Helper()
	out, err := a.run(args...)
	if err != nil {
		a.t.Fatalf("aws %s %s: %v\n%s", a.service, strings.Join(args, " "), err, out)
	}
	return out
}

// prints checks the output of a command.
func (a *awscli) prints(want string, args ...string) {
	a.t.Helper()
	if got := strings.Join(strings.Fields(a.does(args...)), " "); got != want {
		a.t.Errorf("aws %s %s: got %q, want %q", a.service, strings.Join(args, " "), got, want)
	}
}

// fails checks that a command fails with an error of a code.
func (a *awscli) fails(code string, args ...string) {
	a.t.Helper()
	out, err := a.run(args...)
	if err == nil || !strings.Contains(out, "("+code+")") {
		a.t.Errorf("aws %s %s: got %v and %q, want %s", a.service, strings.Join(args, " "), err, out, code)
	}
}

func TestAWSCLIVolume(t *testing.T) {
	a := newAWSCLI(t)
	a.prints(harness.Region, "describe-regions", "--filters", "Name=region-name,Values="+harness.Region, "--query", "Regions[].RegionName")
	host := a.does("describe-instances", "--query", "Reservations[0].Instances[0].InstanceId")
	id := a.does("create-volume", "--size", "8", "--availability-zone", harness.Region+"a", "--volume-type", "gp3",
		"--tag-specifications", "ResourceType=volume,Tags=[{Key=Name,Value=a b}]", "--query", "VolumeId")
	a.does("wait", "volume-available", "--volume-ids", id)
	a.fails("DryRunOperation", "attach-volume", "--dry-run", "--volume-id", id, "--instance-id", host, "--device", "/dev/sdf")
	a.prints("attaching", "attach-volume", "--volume-id", id, "--instance-id", host, "--device", "/dev/sdf", "--query", "State")
	a.does("wait", "volume-in-use", "--volume-ids", id)
	a.fails("VolumeInUse", "delete-volume", "--volume-id", id)
	a.prints("8 gp3 3000 attached a b", "describe-volumes", "--filters", "Name=attachment.device,Values=/dev/sd?", "Name=tag:Name,Values=a*",
		"--query", "Volumes[].[Size,VolumeType,Iops,Attachments[0].State,Tags[0].Value]")
	a.does("modify-volume", "--volume-id", id, "--size", "9")
	a.prints("8 9 completed", "describe-volumes-modifications", "--volume-ids", id, "--query", "VolumesModifications[].[OriginalSize,TargetSize,ModificationState]")
	a.prints("detaching", "detach-volume", "--volume-id", id, "--query", "State")
	a.does("wait", "volume-available", "--volume-ids", id)
	a.does("delete-volume", "--volume-id", id)
	a.does("wait", "volume-deleted", "--volume-ids", id)
	a.fails("InvalidVolume.NotFound", "describe-volumes", "--volume-ids", id)
}

func TestAWSCLIImage(t *testing.T) {
	a := newAWSCLI(t)
	volume := a.does("create-volume", "--size", "1", "--availability-zone", harness.Region+"a", "--query", "VolumeId")
	snapshot := a.does("create-snapshot", "--volume-id", volume, "--description", "first", "--query", "SnapshotId")
	a.does("wait", "snapshot-completed", "--snapshot-ids", snapshot)
	id := a.does("register-image", "--name", "web (1)", "--architecture", "x86_64", "--virtualization-type", "hvm", "--root-device-name", "/dev/sda1",
		"--block-device-mappings", "DeviceName=/dev/sda1,Ebs={SnapshotId="+snapshot+",VolumeType=gp3}", "DeviceName=/dev/sdb,VirtualName=ephemeral0",
		"--ena-support", "--boot-mode", "uefi", "--query", "ImageId")
	a.does("wait", "image-available", "--image-ids", id)
	a.fails("InvalidAMIName.Duplicate", "register-image", "--name", "web (1)", "--root-device-name", "/dev/sda1",
		"--block-device-mappings", "DeviceName=/dev/sda1,Ebs={SnapshotId="+snapshot+"}")
	a.does("create-tags", "--resources", id, snapshot, "--tags", "Key=env,Value=test")
	a.prints("image snapshot", "describe-tags", "--filters", "Name=key,Values=env", "--query", "sort(Tags[].ResourceType)")
	a.does("modify-image-attribute", "--image-id", id, "--launch-permission", "Add=[{UserId=222222222222},{Group=all}]")
	a.prints("all 222222222222", "describe-image-attribute", "--image-id", id, "--attribute", "launchPermission",
		"--query", "[LaunchPermissions[0].Group,LaunchPermissions[1].UserId]")
	a.does("modify-snapshot-attribute", "--snapshot-id", snapshot, "--operation-type", "add", "--user-ids", "222222222222")
	nextYear := time.Now().UTC().AddDate(1, 0, 0).Truncate(time.Minute)
	a.does("enable-image-deprecation", "--image-id", id, "--deprecate-at", nextYear.Format(time.RFC3339))
	a.prints("uefi True /dev/sda1 /dev/sdb "+nextYear.Format("2006-01-02T15:04:05.000Z"), "describe-images", "--owners", "self", "--filters", "Name=name,Values=web*",
		"--query", "Images[].[BootMode,EnaSupport,BlockDeviceMappings[0].DeviceName,BlockDeviceMappings[1].DeviceName,DeprecationTime]")
	a.copies(id, snapshot)
	a.fails("InvalidSnapshot.InUse", "delete-snapshot", "--snapshot-id", snapshot)
	a.does("deregister-image", "--image-id", id)
	a.does("delete-snapshot", "--snapshot-id", snapshot)
	a.fails("InvalidAMIID.NotFound", "describe-images", "--image-ids", id)
}

// copies copies to another region; the CLI signs an address of the source region
// for a snapshot's copy.
func (a *awscli) copies(image, snapshot string) {
	a.t.Helper()
	const there = "us-east-1"
	copied := a.does("copy-image", "--region", there, "--source-region", harness.Region, "--source-image-id", image, "--name", "copy", "--query", "ImageId")
	a.does("wait", "image-available", "--region", there, "--image-ids", copied)
	a.does("copy-snapshot", "--region", there, "--source-region", harness.Region, "--source-snapshot-id", snapshot)
	a.prints("2", "describe-snapshots", "--region", there, "--owner-ids", "self", "--query", "length(Snapshots)")
}

// TestAWSCLIPages makes the CLI ask for pages.
func TestAWSCLIPages(t *testing.T) {
	a := newAWSCLI(t)
	tags := make([]string, 12)
	for i := range tags {
		tags[i] = fmt.Sprintf("Key=k%d,Value=v", i)
	}
	a.does("create-volume", "--size", "1", "--availability-zone", harness.Region+"a", "--tag-specifications",
		"ResourceType=volume,Tags=[{"+strings.Join(tags, "},{")+"}]")
	a.prints("12", "describe-tags", "--page-size", "5", "--output", "json", "--query", "length(Tags)")
	a.fails("InvalidParameterValue", "describe-tags", "--filters", "Name=colour,Values=red")
}
