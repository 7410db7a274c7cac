// Package testdir creates temporary directories for tests. All tests of this module use it
// instead of testing.T.TempDir, which also removes files below mount points: after a test
// that failed before it unmounted a bind mount of /dev, it deletes the host's device nodes.
package testdir
