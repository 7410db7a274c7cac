// Package wire is the protocol between a plugin and its keeper: calls, their replies,
// cancellations and notes, as frames on a Unix stream socket that also carries open files.
//
// A Client makes calls and a Server runs them, any number at the same time. Errors keep
// their text and, for errors.Is, the errors that both ends know.
//
// Both ends must be the same program: values are encoded with encoding/gob, and known
// errors by their index in a list. Do not use it between versions or between hosts, nor
// for bulk data: send the end of a pipe instead. It does not authenticate the peer; package
// rendezvous does that before the first frame.
package wire
