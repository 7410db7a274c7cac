//go:build linux

package main

import (
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/smithy-go"

	"github.com/packer-chroot/packer-plugin-chroot/sdkhttp"
	"github.com/packer-chroot/packer-plugin-chroot/testdir"
	"github.com/packer-chroot/packer-plugin-chroot/testroot"
)

// client returns an EC2 client of a served cloud.
func (s *served) client() *ec2.Client {
	return ec2.New(ec2.Options{
		BaseEndpoint: aws.String(s.endpoint),
		Region:       "eu-west-2",
		Credentials:  credentials.NewStaticCredentialsProvider(printedKey.ID, printedKey.Secret, ""),
		Retryer:      aws.NopRetryer{},
		HTTPClient:   sdkhttp.Safe(awshttp.NewBuildableClient()),
	})
}

// attached creates a volume and attaches it to this machine under a free name.
func (s *served) attached(t *testing.T) {
	t.Helper()
	c := s.client()
	volume, err := c.CreateVolume(t.Context(), &ec2.CreateVolumeInput{AvailabilityZone: aws.String("eu-west-2a"), Size: aws.Int32(1)})
	if err != nil {
		t.Fatal(err)
	}
	hosts, err := c.DescribeInstances(t.Context(), &ec2.DescribeInstancesInput{})
	if err != nil {
		t.Fatal(err)
	}
	for letter := 'p'; letter >= 'f'; letter-- {
		_, err = c.AttachVolume(t.Context(), &ec2.AttachVolumeInput{
			VolumeId: volume.VolumeId, InstanceId: hosts.Reservations[0].Instances[0].InstanceId,
			Device: aws.String("/dev/sd" + string(letter)),
		})
		var refusal smithy.APIError
		if !errors.As(err, &refusal) || !strings.Contains(refusal.ErrorMessage(), "in use") {
			break
		}
	}
	if err != nil {
		t.Fatal(err)
	}
}

// TestImportIsInterrupted checks that an interrupted import leaves no disk behind.
func TestImportIsInterrupted(t *testing.T) {
	tools, root, dir := testdir.New(t), testdir.New(t), testdir.New(t)
	begun := filepath.Join(tools, "begun")
	script := "#!/bin/sh\n: > " + begun + "\nexec sleep 60\n"
	if err := os.WriteFile(filepath.Join(tools, "mkfs.ext4"), []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	cmd := programWith(t, "image", "import", "--dir", dir, "--name", "xyz", root)
	cmd.Env = append(cmd.Env, "PATH="+tools+":"+os.Getenv("PATH"))
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	for {
		if _, err := os.Stat(begun); err == nil {
			break
		}
		runtime.Gosched()
	}
	_ = cmd.Process.Signal(syscall.SIGTERM)
	_ = cmd.Wait()
	if got := cmd.ProcessState.ExitCode(); got != statusFailed {
		t.Errorf("the status is %d", got)
	}
	for _, place := range []string{"tmp", "snapshots"} {
		if left, _ := os.ReadDir(filepath.Join(dir, place)); len(left) != 0 {
			t.Errorf("%s has %v", place, left)
		}
	}
}

// loopsIn returns the loop devices of files in a directory.
func loopsIn(t *testing.T, dir string) []string {
	t.Helper()
	files, err := filepath.Glob("/sys/block/loop*/loop/backing_file")
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, name := range files {
		if text, err := os.ReadFile(name); err == nil && strings.HasPrefix(string(text), dir+"/") {
			out = append(out, name)
		}
	}
	return out
}

// TestEndsReleaseDevices checks that a loopcloud with an attached volume leaves no device when
// it is stopped, and that the next start releases the device if it was killed.
func TestEndsReleaseDevices(t *testing.T) {
	testroot.Need(t, "loop devices")
	for _, test := range []struct {
		signal syscall.Signal
		leaves int
	}{{syscall.SIGTERM, 0}, {syscall.SIGKILL, 1}} {
		t.Run(test.signal.String(), func(t *testing.T) {
			dir := testdir.New(t)
			first := serve(t, dir)
			first.attached(t)
			if n := len(loopsIn(t, dir)); n != 1 {
				t.Fatalf("attached, there are %d devices", n)
			}
			first.stop(test.signal)
			if n := len(loopsIn(t, dir)); n != test.leaves {
				t.Errorf("ended, there are %d devices", n)
			}
			second := serve(t, dir)
			if n := len(loopsIn(t, dir)); n != 0 {
				t.Errorf("started again, there are %d devices", n)
			}
			second.attached(t)
			second.stop(syscall.SIGTERM)
			if n := len(loopsIn(t, dir)); n != 0 {
				t.Errorf("in the end, there are %d devices", n)
			}
		})
	}
}
