// Package oapi speaks the Outscale API, version 1, for loopcloud: it decodes
// JSON, calls the state, and encodes JSON. It keeps nothing but who signs wrongly.
//
// It has the calls that making images needs, and of each call the parameters and
// filters that mean something here. Everything else is refused as the API
// refuses what it does not know, so that nobody believes to have asked for
// something.
//
// Sources of the facts: the API's description
// (https://docs.outscale.com/api.html), its page of errors
// (https://docs.outscale.com/api-errors.html), and answers of the real cloud that
// users have recorded. errors.go says which code is from where.
package oapi
