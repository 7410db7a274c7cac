// Package amazon implements the builder amazon-chroot: its options, access to AWS, and
// bake.Cloud for EC2. Of the plugins' packages, only amazon and sdkhttp import the AWS SDK.
package amazon
