// Package query is AWS's Query protocol, as far as EC2 and STS have it in common: a
// form comes in by POST or in the address, XML goes out, and a refusal is a status, a
// code and a message. It knows no action: a Service says what it has of its own.
//
// What nobody knows is refused: a request without an action, and parameters that
// nothing has taken from the Form.
package query
