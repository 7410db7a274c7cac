// Package fault makes calls of a cloud go wrong on request, and keeps a record of
// the calls that were made. It knows of calls only what they are named.
package fault
