// Package oapi implements the Outscale API, version 1, for loopcloud. A call decodes JSON into a
// request struct, calls the state, and returns a response struct. The package keeps no state but
// the count of wrong signatures.
//
// It implements the calls that creating images needs, with the parameters and filters that have
// an effect in loopcloud. It refuses everything else as the API refuses unknown calls and
// parameters, so that no request is ignored silently. actions.go lists the calls; the tests of
// all calls in actions_test.go take them, and their parameters, from that list.
//
// Sources: the API's description (https://docs.outscale.com/api.html), its error page
// (https://docs.outscale.com/api-errors.html), and responses of the real cloud that users
// recorded. errors.go names the source of each error code.
package oapi
