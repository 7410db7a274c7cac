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

  loopcloud serve  --dir DIR [--listen HOST:PORT] [CLOUD]    on 127.0.0.1:4600, until it is stopped
  loopcloud run    [--dir DIR] [CLOUD] -- COMMAND…           run COMMAND with a cloud of its own
  loopcloud image import PLACE --name NAME [IMAGE] SOURCE
                                SOURCE: a root directory, a tar archive of one, or a raw disk; prints the image's ID
  loopcloud image export PLACE ID FILE
  loopcloud image list   PLACE [--json]
  loopcloud image boot   PLACE ID [BOOT]
                                boot a copy of the image's disk in QEMU, with its serial console on the standard output,
                                until there is a login prompt; the exit status is 1 if there is none
  loopcloud version

--dir holds all data; without it, run creates a cloud that is removed when COMMAND ends. The directory is created with
mode 0700, and is refused if another user owns it or can write to it. COMMAND's environment directs AWS's and Outscale's
clients to the cloud, and contains LOOPCLOUD_ENDPOINT and LOOPCLOUD_TOKEN. The exit status of run is that of COMMAND.

PLACE: --dir DIR                a cloud that is not being served
       --endpoint URL           a cloud that is being served, such as http://127.0.0.1:4600. It needs the control token in
                                the file DIR/token: from --dir DIR, --token-file FILE, or LOOPCLOUD_TOKEN
CLOUD: --profile instant|aws[:SCALE]|outscale[:SCALE]
                                how long state changes take: no time, or as in that cloud; aws:0.1 takes a tenth of it
       --naming xen|nvme|nvme-links|scsi
                                devices as /dev/xvdf, or as /dev/nvme1n1 or /dev/sdb with a link in /dev/disk/by-id;
                                nvme-links adds links with the requested names, as Amazon Linux does
       --region REGION          the default region; default: the first of --regions
       --regions REGION[:off],… the regions; those with :off are not opted in to; default:
                                eu-west-2, us-east-1, us-west-2, eu-west-1, us-east-2, cloudgouv-eu-west-1, eu-south-1, me-south-1:off
       --key ID:SECRET[:ACCOUNT]…
                                the keys that may sign requests; COMMAND gets the first one. The default is
                                AKIALOOPCLOUD0000000:loopcloud/not/a/secret/of/any/real/cloud
                                Other users of this machine can read a command line: pass secrets by
       --key-file FILE…         a file (mode 0600) of such keys, one on each line, or by the variable LOOPCLOUD_KEY
       --allow-host NAME…       a name of this machine that clients use: without it, requests that are not signed by a
                                key of your own are refused unless they name localhost or an IP address
       --fault JSON|@FILE…      fault rules in force from the beginning: see docs/loopcloud.md
       --setting JSON|@FILE…    settings of accounts, such as encryption by default: see docs/loopcloud.md
       --seed N                 the seed of faults with a probability; default: 0
       --zone ZONE              the zone of this machine in the default region, or a Local Zone; default: the first zone
       --outpost ARN            the Outpost in that zone that this machine runs on; default: none
       --metadata-hops N        the network hops from builds to the metadata service; default: 1; in a container: 2
       --hosts N                the number of machines that this one stands for; default: 1. With 0 it is no machine of
                                the cloud: the metadata service refuses. serve prints the metadata endpoints of the second
                                one and of the following ones
IMAGE: --id ami-…  --description TEXT  --boot-mode legacy-bios|uefi|uefi-preferred  --arch i386|x86_64|arm64
       --region REGION  --account ACCOUNT  --tag KEY=VALUE…  --size GIB
BOOT:  --uefi[=false]           overrides the image's boot mode
       --memory MIB  --timeout 5m  --kvm auto|yes|no
       --until TEXT             the text to wait for on the console; default: login:
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
		fmt.Fprintf(p.stderr, "loopcloud: %v (see loopcloud help)\n", err)
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
