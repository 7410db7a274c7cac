// The guest of TestQEMU: it looks for each of the volumes that it is given while
// they are being attached, and tells what it found on its standard output.
package main

import (
	"context"
	"fmt"
	"os"
	"sync"
	"time"

	"github.com/packer-chroot/packer-plugin-chroot/disk"
)

func main() {
	var all sync.WaitGroup
	for _, volume := range os.Args[1:] {
		all.Go(func() { fmt.Println(find(volume)) })
	}
	fmt.Println("guest: ready")
	all.Wait()
	fmt.Println("guest: done")
}

// find answers the line for a volume: its node, what the controller says, and what
// the disk begins with.
func find(volume string) string {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	node, err := disk.Find(ctx, disk.Query{Volume: volume, Device: "/dev/sdf"})
	if err != nil {
		return fmt.Sprintf("guest: %s: error: %v", volume, err)
	}
	c, err := disk.Identify(node)
	if err != nil {
		return fmt.Sprintf("guest: %s: error: %v", volume, err)
	}
	f, err := os.Open(node)
	if err != nil {
		return fmt.Sprintf("guest: %s: error: %v", volume, err)
	}
	defer f.Close()
	begin := make([]byte, len(volume))
	if _, err := f.Read(begin); err != nil {
		return fmt.Sprintf("guest: %s: error: %v", volume, err)
	}
	return fmt.Sprintf("guest: %s: %s serial=%s vendor=%04x begins=%s", volume, node, c.Serial, c.Vendor, begin)
}
