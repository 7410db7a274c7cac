// Package retry repeats calls of a cloud's API that fail for a reason that passes.
//
// There is one policy for both clouds. Each of them classifies its own errors: see Kind.
package retry
