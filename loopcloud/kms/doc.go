// Package kms implements DescribeKey of KMS, the only call about keys that clients of EC2 make. It
// reports whether AWS or the customer manages a key. No keys are stored: the existence and the
// manager of a key follow from its name. See state.Managed.
package kms
