// Package amazon is all that knows AWS: the options of the builder
// amazon-chroot, bake's Cloud on EC2, and the artifact.
package amazon
