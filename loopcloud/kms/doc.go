// Package kms answers the one question about keys that clients of EC2 ask: DescribeKey,
// which tells who manages a key. There are no keys here: those that exist, and what
// manages them, follows from their names. See state.Managed.
package kms
