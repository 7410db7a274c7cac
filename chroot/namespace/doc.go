// Package namespace runs code in Linux namespaces other than this process's.
//
// A Set holds the host name and the System V IPC that the commands of one root share; a
// Mount is the mount namespace of other processes. Both act on an OS thread of their own,
// which ends afterwards, so that no other goroutine ever runs in a foreign namespace. Use
// SysProcAttr.Cloneflags instead for a namespace that ends with one command.
package namespace
