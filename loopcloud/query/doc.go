// Package query implements the parts of AWS's Query protocol that EC2 and STS share: a request is
// a form in the body or in the URL, a response is XML, and a refusal has a status, a code and a
// message. The package has no actions: a Service provides them.
//
// It refuses a request without an action, and parameters that no code has taken from the Form.
package query
