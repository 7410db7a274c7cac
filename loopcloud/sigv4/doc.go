// Package sigv4 verifies the signatures of requests to EC2, STS, KMS and the Outscale API: AWS
// Signature Version 4 with one secret (AWS4-HMAC-SHA256), in the Authorization header or in the
// query of a presigned URL.
//
// It does not sign requests.
//
// Source:
// https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv-create-signed-request.html
package sigv4
