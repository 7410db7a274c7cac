// Package amazon implements the builder amazon-chroot: its options, bake.Cloud for EC2, and
// the artifact. No other package of the plugins depends on AWS.
package amazon
