// Package imds implements the instance metadata service, versions 1 and 2, of the machine that
// loopcloud runs on. The Outscale cloud has the same service, as far as clients use it.
//
// The machine has an instance profile. The service returns the keys of its role as EC2 does.
//
// Sources: https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/instancedata-data-categories.html
// and the pages beside it.
package imds
