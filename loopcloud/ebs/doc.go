// Package ebs implements the EBS direct APIs: reading and writing the blocks of snapshots over
// HTTP. The snapshots are those of the EC2 API.
//
//	POST /snapshots                              StartSnapshot
//	PUT  /snapshots/{id}/blocks/{index}          PutSnapshotBlock
//	POST /snapshots/completion/{id}              CompleteSnapshot
//	GET  /snapshots/{id}/blocks                  ListSnapshotBlocks
//	GET  /snapshots/{id}/changedblocks           ListChangedBlocks
//	GET  /snapshots/{id}/blocks/{index}          GetSnapshotBlock
//
// A handler decodes its request, calls the state and encodes the result:
//
//	route → authorize → limits → decode → state.Cloud → response
//
// Source of names, ranges and errors:
// https://docs.aws.amazon.com/ebs/latest/APIReference/Welcome.html
package ebs
