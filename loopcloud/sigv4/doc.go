// Package sigv4 checks the signatures that clients of EC2 and of the Outscale
// API put on their requests: AWS Signature Version 4, with one secret
// (AWS4-HMAC-SHA256), in the Authorization header or in the query of a
// presigned address.
//
// It is the server's half only, and it knows no temporary credentials: a
// session token that a client sends is signed like any other header, and
// otherwise means nothing.
//
// Source of the facts:
// https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv-create-signed-request.html
package sigv4
