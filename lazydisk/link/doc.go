// Package link is the protocol between the process that serves a lazy disk and the process that
// has its source: requests and replies, in both directions at the same time, over a stream.
//
// Block contents are read from the connection directly into the buffer of the caller. Both ends
// must be the same program. The protocol does not authenticate the peer: use a socket pair.
package link
