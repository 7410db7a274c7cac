// Package sts speaks the wire format of AWS's Security Token Service, as far as
// clients of EC2 need it: who they are, temporary keys, and the reason of a refusal.
//
// There are no users, roles or policies behind it: every key may assume every role
// of an account that the cloud has. What a request says of policies, tags and an
// external id is checked for its form and has no effect. Of MFA codes, 000000 is
// wrong and any other six digits are right. A web identity token is believed whoever
// signed it, until it ends.
//
// An encoded authorization message is the Base64 form of the document that it
// decodes to.
//
// Sources of the facts: https://docs.aws.amazon.com/STS/latest/APIReference/.
package sts
