// Package apitest checks requests and answers of EC2 and STS against the models of their
// APIs.
//
// The model is the SDK itself. It knows the name and type of each parameter, the values of
// each enumeration, the required parameters, and the elements of each answer; a parameter's
// name is found by having the SDK serialize it. The SDK does not carry lengths, ranges and
// patterns: these come from the model that the AWS CLI brings, if it is installed.
// Documented sets of values, and the names of filters, are read from the SDK's comments.
package apitest
