// Package wire holds a request in the form that the server hands it to a dialect: the body has
// been read, and the parameters of the URL and of a form in the body are parsed once.
package wire
