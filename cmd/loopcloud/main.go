//go:build linux

package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"runtime/debug"
)

const usage = `loopcloud is a cloud on one machine: EC2, its metadata service and the Outscale API over real block devices.

  loopcloud serve  --dir DIR [--listen HOST:PORT] [CLOUD]    on 127.0.0.1:4600, until it is told to stop
  loopcloud run    [--dir DIR] [CLOUD] -- COMMAND…           run COMMAND with a cloud of its own
  loopcloud image import PLACE --name NAME [IMAGE] SOURCE
                                SOURCE: a root directory, a tar of one, or a raw disk; prints the image's id
  loopcloud image export PLACE ID FILE
  loopcloud image list   PLACE [--json]
  loopcloud image boot   PLACE ID [BOOT]
                                boot a copy of the image's disk in QEMU, with its serial console on the standard output,
                                until there is a login prompt; 1 if none came
  loopcloud version

--dir keeps everything; without it, run has a cloud that goes when COMMAND ends. It is created with mode 0700, and is
refused if another user owns it or can write to it. COMMAND's environment has what points AWS's and Outscale's clients
to the cloud, LOOPCLOUD_ENDPOINT and LOOPCLOUD_TOKEN; its exit status is run's.

PLACE: --dir DIR                of a cloud that nothing serves now
       --endpoint URL           of one that is served, such as http://127.0.0.1:4600. It wants the control token, which
                                the file DIR/token holds: from --dir DIR, --token-file FILE, or LOOPCLOUD_TOKEN
CLOUD: --profile instant|aws[:SCALE]|outscale[:SCALE]
                                how long things take: none, or as long as there; aws:0.1 takes a tenth of it
       --naming xen|nvme|nvme-links|scsi
                                devices as /dev/xvdf, or as /dev/nvme1n1 or /dev/sdb with a link in /dev/disk/by-id;
                                nvme-links adds links under the names asked for, as Amazon Linux does
       --region REGION          the default region: the first of --regions
       --regions REGION[:off],… the regions that there are, those with :off not opted in to:
                                eu-west-2, us-east-1, us-west-2, eu-west-1, us-east-2, cloudgouv-eu-west-1, eu-south-1, me-south-1:off
       --key ID:SECRET[:ACCOUNT]…
                                who may sign requests, run's COMMAND with the first of them; without it
                                AKIALOOPCLOUD0000000:loopcloud/not/a/secret/of/any/real/cloud
                                Other users of this machine can read a command line: give secrets in
       --key-file FILE…         a file (mode 0600) of such keys, one a line, or in the variable LOOPCLOUD_KEY, likewise
       --allow-host NAME…       a name of this machine that clients use: without it, requests that are not signed by a
                                key of your own are refused unless they name localhost or an IP address
       --fault JSON|@FILE…      what goes wrong from the beginning: see docs/loopcloud.md
       --setting JSON|@FILE…    what accounts have set, such as encryption by default: see docs/loopcloud.md
       --seed N                 for faults left to probability: 0
       --zone ZONE              where in the default region this machine is: its first zone. It may be a Local Zone
       --outpost ARN            the Outpost in that zone that this machine runs on: none
       --metadata-hops N        how far builds are from the metadata service: 1, in a container 2
       --hosts N                how many machines this one stands for, with serve: 1; it says where the metadata
                                of the second are, and of those after it
IMAGE: --id ami-…  --description TEXT  --boot-mode legacy-bios|uefi|uefi-preferred  --arch i386|x86_64|arm64
       --region REGION  --account ACCOUNT  --tag KEY=VALUE…  --size GIB
BOOT:  --uefi[=false]           instead of what the image's boot mode says
       --memory MIB  --timeout 5m  --kvm auto|yes|no
       --until TEXT             what the console is to say: login:
`

// The exit statuses, other than that of a command that was run.
const (
	statusFailed = 1
	statusUsage  = 2
)

// usageError is the error for an invalid command line.
type usageError struct{ message string }

func (e *usageError) Error() string { return e.message }

func misused(format string, args ...any) error {
	return &usageError{fmt.Sprintf(format, args...)}
}

// statusError is an error with an exit status and without a message.
type statusError int

func (s statusError) Error() string { return fmt.Sprintf("exit status %d", int(s)) }

// program is the environment of a command line.
type program struct {
	env            []string
	stdout, stderr *os.File
}

func main() {
	p := &program{env: os.Environ(), stdout: os.Stdout, stderr: os.Stderr}
	os.Exit(p.main(context.Background(), os.Args[1:]))
}

// main runs a command line and returns the exit status.
func (p *program) main(ctx context.Context, args []string) int {
	err := p.dispatch(ctx, args)
	var status statusError
	var misuse *usageError
	switch {
	case err == nil:
		return 0
	case errors.Is(err, flag.ErrHelp):
		fmt.Fprint(p.stdout, usage)
		return 0
	case errors.As(err, &status):
		return int(status)
	case errors.As(err, &misuse):
		fmt.Fprintf(p.stderr, "loopcloud: %v (loopcloud help tells more)\n", err)
		return statusUsage
	}
	fmt.Fprintf(p.stderr, "loopcloud: %v\n", err)
	return statusFailed
}

func (p *program) dispatch(ctx context.Context, args []string) error {
	if len(args) == 0 {
		return misused("no command: there are serve, run, image and version")
	}
	switch name, rest := args[0], args[1:]; name {
	case "serve":
		return p.serve(ctx, rest)
	case "run":
		return p.run(ctx, rest)
	case "image":
		return p.image(ctx, rest)
	case "version", "--version":
		return p.version(rest)
	case "help", "--help", "-h":
		return flag.ErrHelp
	default:
		return misused("there is no command %q: there are serve, run, image and version", name)
	}
}

func (p *program) version(args []string) error {
	rest, err := parse(newFlags("version"), args)
	if err != nil {
		return err
	}
	if len(rest) > 0 {
		return misused("version: %q is no option", rest[0])
	}
	version := "unknown"
	if info, ok := debug.ReadBuildInfo(); ok {
		version = info.Main.Version
	}
	_, err = fmt.Fprintln(p.stdout, "loopcloud", version)
	return err
}
