// Package rpc is the protocol between the process that serves a lazy disk and the process that
// has its source: requests and replies, in both directions at the same time, over a stream.
//
// Block contents are read from the connection directly into the buffer of the caller. Both ends
// must be the same program, because the protocol has no versions. It does not authenticate the
// peer: use a socket pair, and no socket that another process could connect to.
package rpc
