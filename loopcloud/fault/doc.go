// Package fault holds the rules by which calls to a cloud fail on request, the calls that are
// held, and a log of all calls. It knows only the names of calls.
package fault
