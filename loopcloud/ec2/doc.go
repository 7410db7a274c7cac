// Package ec2 speaks the EC2 Query API, version 2016-11-15, for loopcloud: it
// takes a form from loopcloud/query, calls the state, and gives it what to encode. It
// keeps nothing.
//
// It has the actions that making images needs, and of each action the
// parameters that mean something here. Every other action or parameter is
// refused as EC2 refuses what it does not know, so that nobody believes to have
// asked for something.
//
// Sources of the facts: the API reference
// (https://docs.aws.amazon.com/AWSEC2/latest/APIReference/) for the actions, and
// its page errors-overview.html for the error codes.
package ec2
