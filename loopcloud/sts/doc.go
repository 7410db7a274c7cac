// Package sts implements the parts of AWS's Security Token Service that clients of EC2 need: the
// identity of the caller, temporary keys, and decoded authorization messages.
//
// There are no users, roles or policies: every key may assume every role of an existing account.
// Policies, tags and an external ID are validated and have no effect. The MFA code 000000 is
// wrong, and any other six digits are right. A web identity token is accepted until it expires,
// with any signature.
//
// An encoded authorization message is the decoded document in Base64.
//
// Source: https://docs.aws.amazon.com/STS/latest/APIReference/.
package sts
