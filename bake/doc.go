// Package bake makes an image from a source image's snapshot.
//
// Build runs the steps of steps.go in their order. Each step is in a file of its name, with
// the acts that it can undo: see act.go for the interface of an act, and undoer.go for the
// groups in which acts are undone. Reap undoes the acts of builds that were killed, and
// Destroy deletes an image.
//
// The package knows neither Packer nor a cloud's SDK: a Cloud performs the requests, a
// Machine the work on this host, and a Reporter shows the progress.
package bake
