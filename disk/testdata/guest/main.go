// The guest of the tests that run a virtual machine: it looks for each of the volumes
// that it is given, by its id or as ID=NAME with the name that it is asked for under,
// while they are being attached, and prints the result.
package main

import (
	"context"
	"fmt"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/packer-chroot/packer-plugin-chroot/disk"
)

func main() {
	before := disk.Disks()
	var all sync.WaitGroup
	for _, arg := range os.Args[1:] {
		volume, device, named := strings.Cut(arg, "=")
		if !named {
			device = "/dev/sdf"
		}
		q := disk.Query{Volume: volume, Device: device, Before: before}
		all.Go(func() { fmt.Printf("guest: %s: %s\n", volume, find(q)) })
	}
	fmt.Println("guest: ready")
	all.Wait()
}

// find describes a volume: its node, the identity of its controller if it is an NVMe
// disk, and the beginning of its content.
func find(q disk.Query) string {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	node, err := disk.Find(ctx, q)
	if err != nil {
		return fmt.Sprintf("error: %v", err)
	}
	said := node
	if c, err := disk.Identify(node); err == nil {
		said += fmt.Sprintf(" serial=%s vendor=%04x", c.Serial, c.Vendor)
	}
	f, err := os.Open(node)
	if err != nil {
		return fmt.Sprintf("error: %v", err)
	}
	defer f.Close()
	begin := make([]byte, len(q.Volume))
	if _, err := f.Read(begin); err != nil {
		return fmt.Sprintf("error: %v", err)
	}
	return fmt.Sprintf("%s begins=%s", said, begin)
}
