// Package bake builds an image from the snapshots of a source image, or from an empty volume.
//
// Build runs the steps of steps.go in their order. The acts that a step can undo are in the
// file of the step: see act.go for the interface of an act, and undoer.go for the groups in
// which acts are undone. Reap undoes the acts of builds that were killed, and Destroy deletes
// an image.
//
// The package imports neither Packer nor a cloud's SDK: a Cloud performs the requests, a
// Machine the work on this host, and a Reporter shows the progress.
package bake
