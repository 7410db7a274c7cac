// Package state is what loopcloud knows: volumes, snapshots, images, virtual
// machines, accounts and regions. The wire formats beside it decode a request,
// call a method of Cloud, and encode the answer; they keep nothing.
package state
