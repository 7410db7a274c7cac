// Package testdir makes temporary directories for tests. All tests of this module use it
// instead of testing.T.TempDir, which removes also what is mounted in the directory: a
// test that failed before it unmounted a bind of /dev then deletes the device nodes of
// the host.
package testdir
