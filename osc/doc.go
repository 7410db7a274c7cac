// Package osc implements the builder osc-chroot: its options, access to the Outscale API, and
// bake.Cloud for it. No other package of the plugins depends on Outscale.
//
// The SDK is osc-sdk-go v3 (a release candidate) rather than v2. V2 requires the retired
// aws-sdk-go v1, signs with one fixed region, and lacks the ClientToken in responses.
//
// Of v3 this package uses the types of requests and responses, and the signature. It does not use
// the client, for three reasons. The client links a method for every call of the API into the
// plugin. It repeats every POST, including CreateImage, with the old signature. Its logger writes
// to standard output, which Packer uses to communicate with the plugin. Instead, calls.go makes a
// call, retry.go is the only place that repeats one, and response.go converts every refusal to
// one error type.
package osc
