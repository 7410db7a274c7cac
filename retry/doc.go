// Package retry repeats calls of a cloud's API that fail for a temporary reason.
//
// Both clouds share one policy: Policy.Do repeats a call for a time that depends on the Kind of its
// error. Each cloud classifies its own errors, and lists in a Table why each of its operations can be
// repeated without a second effect.
package retry
