// Package builder is what the builders share toward Packer: the options that do
// not depend on the cloud, the order of a build as Packer sees it (ui,
// provisioning, -on-error, -debug) and the artifact.
//
// It is the only package that knows both Packer and [bake]. A cloud's package
// decodes its options with [Decode], describes itself as a [Kind], and hands a
// [Job] to [Run].
package builder
