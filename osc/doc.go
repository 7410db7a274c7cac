// Package osc is all that knows Outscale: how to reach its API, and bake.Cloud
// over it.
//
// The SDK is osc-sdk-go v3 (a release candidate) rather than v2. V2 brings the
// retired aws-sdk-go v1, signs with one fixed region and knows no ClientToken on
// reading. Of v3 the types of requests and answers are used, and its signature.
// Its client is not: it keeps a method for every call of the API in the plugin
// (calls.go), it repeats every POST, CreateImage included, and sends an old
// signature again, and its logger writes to standard output, which is Packer's
// channel to a plugin. What comes in its place is calls.go, by which a call is
// made, retry.go, the only place where one is made twice, and errors.go, which
// gives every refused answer one type.
package osc
