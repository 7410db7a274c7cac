// Package state holds the state of loopcloud: volumes, snapshots, images, virtual machines,
// accounts and regions. The API packages decode a request, call a method of Cloud, and encode the
// result; they hold no state.
//
//	volume     creating → available ⇄ in-use → deleting
//	attachment attaching → attached → detaching → (gone)
//	snapshot   pending → completed → (gone)
//	image      pending → available → (gone)
//	VM         pending → running → shutting-down → terminated
//
// The state of a resource is computed from the times of its changes and the Cloud's clock. Its
// data, which a Disks stores, exists as soon as the call that creates it returns, whatever the
// state.
package state
