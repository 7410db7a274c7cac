// Package kms implements DescribeKey of KMS, the only call about keys that clients of EC2 make.
// It returns who manages a key. There are no keys here: the existence and the manager of a key
// follow from its name. See state.Managed.
package kms
