//go:build !linux

package main

import (
	"fmt"
	"os"
)

func main() {
	fmt.Fprintln(os.Stderr, "loopcloud: its volumes are loop devices: it needs Linux")
	os.Exit(1)
}
