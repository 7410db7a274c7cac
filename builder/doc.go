// Package builder holds the code of both builders that faces Packer: the options that do not
// depend on the cloud, the course of a build in Packer (output, provisioning, -on-error,
// -debug), and the artifact.
//
// It is the only package that uses both Packer and [bake]. The package of a cloud decodes its
// options with [Decode], describes itself by a [Kind], and passes a [Job] to [Run].
package builder
