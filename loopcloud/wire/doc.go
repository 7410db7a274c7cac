// Package wire holds the type of a request that the server passes to the API packages. Its body
// has been read, and the parameters of its URL and of a form in the body have been parsed.
package wire
