// Package imds speaks the instance metadata service, versions 1 and 2, for the
// machine that loopcloud runs on. The Outscale cloud has the same service, as far
// as its clients ask.
//
// The machine has an instance profile, whose role's keys the service gives out as
// EC2's does.
//
// Sources of the facts:
// https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/instancedata-data-categories.html
// and the pages beside it.
package imds
