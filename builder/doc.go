// Package builder holds the code of both builders that faces Packer: the options that do not
// depend on the cloud, the course of a build in Packer (output, provisioning, -on-error,
// -debug), and the artifact.
//
// The package of a cloud declares a [Plugin] with its [Kind] and its [Options], and decodes
// the options with [Prepare]. A [Builder] then runs the [Job] that the options describe.
package builder
