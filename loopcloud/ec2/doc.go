// Package ec2 implements the EC2 Query API, version 2016-11-15, for loopcloud. An action decodes
// a form of loopcloud/query into an input struct, calls the state, and returns an output struct.
// The package keeps no state.
//
// It implements the actions that creating images needs, with the parameters that have an effect
// in loopcloud. It refuses every other action and parameter as EC2 refuses unknown ones, so that
// no request is ignored silently. actions.go lists the actions; the tests of all actions in
// actions_test.go take them, and their parameters, from that list.
//
// Sources: the API reference (https://docs.aws.amazon.com/AWSEC2/latest/APIReference/) for the
// actions, and its page errors-overview.html for the error codes.
package ec2
