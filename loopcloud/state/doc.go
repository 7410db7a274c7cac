// Package state is what loopcloud knows: volumes, snapshots, images, virtual
// machines, accounts and regions. The wire formats beside it decode a request,
// call a method of Cloud, and encode the answer; they keep nothing.
//
//	volume     creating → available ⇄ in-use → deleting
//	attachment attaching → attached → detaching → (gone)
//	snapshot   pending → completed → (gone)
//	image      pending → available → (gone)
//	VM         pending → running → shutting-down → terminated
//
// An arrow is passed when its time has come by the clock that the Cloud is
// given. The bytes behind a thing are kept by a Disks; they are there as soon as
// the call that makes them returns, whatever state the thing still reads.
package state
