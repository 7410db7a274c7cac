// Package ebsdirect reads and writes the blocks of EBS snapshots with the EBS direct APIs.
//
//	Source  lists and reads the blocks of a completed snapshot
//	Upload  writes a new snapshot: Start, Write for each changed block, Complete
//
// All requests of a Client share a window, which limits how many are under way. If EBS throttles
// one of them, or does not respond in time, the window becomes smaller for all.
//
// Source of names, ranges and errors:
// https://docs.aws.amazon.com/ebs/latest/APIReference/Welcome.html
package ebsdirect
