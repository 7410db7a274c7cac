//go:build !linux

package main

import (
	"fmt"
	"os"
)

func main() {
	fmt.Fprintln(os.Stderr, "loopcloud needs Linux: its volumes are loop devices")
	os.Exit(1)
}
