// Package apitest checks requests and responses of EC2 and STS against the models of their APIs.
//
// The model is the SDK itself. It contains the name and type of each parameter, the values of
// each enumeration, the required parameters, and the elements of each response; the name of a
// parameter is found by serializing it with the SDK. The SDK does not contain lengths, ranges and
// patterns: these come from the model in the AWS CLI, if it is installed. Documented sets of
// values, and the names of filters, come from the SDK's comments.
package apitest
