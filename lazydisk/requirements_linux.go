package lazydisk

import (
	"fmt"
	"os"
)

// Check returns an error if this host lacks something that lazy disks need.
func Check() error {
	for _, node := range []struct{ path, lack string }{
		{"/dev/fuse", "the kernel module fuse, or in a container the device node /dev/fuse"},
		{"/dev/loop-control", "the kernel module loop, or in a container the device nodes of loop devices"},
	} {
		dev, err := os.OpenFile(node.path, os.O_RDWR, 0)
		if err != nil {
			return fmt.Errorf("a disk whose blocks are fetched when they are read needs %s: %w", node.lack, err)
		}
		dev.Close()
	}
	return nil
}
