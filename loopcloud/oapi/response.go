package oapi

import (
	"crypto/rand"
	"encoding/hex"
	"strings"
)

// response is the response of a call: a struct that embeds baseResponse. The API sorts the
// fields of a response by name, and so do the structs.
type response interface{ setRequestID(id string) }

// baseResponse holds the fields of every response.
type baseResponse struct {
	ResponseContext responseContext `json:"ResponseContext"`
}

type responseContext struct {
	RequestID string `json:"RequestId"`
}

func (r *baseResponse) setRequestID(id string) { r.ResponseContext.RequestID = id }

// emptyResponse is the response of a call that returns nothing.
type emptyResponse struct{ baseResponse }

// succeeded returns an empty response, and the error of the call.
func succeeded(err error) (*emptyResponse, error) { return new(emptyResponse), err }

// errorResponse is the response of a call that failed.
type errorResponse struct {
	Errors []errorView `json:"Errors"`
	baseResponse
}

type errorView struct{ Code, Type, Details string }

// newUUID returns a random UUID (RFC 9562, version 4).
func newUUID() string {
	var b [16]byte
	_, _ = rand.Read(b[:]) // never fails
	b[6] = b[6]&0x0f | 0x40
	b[8] = b[8]&0x3f | 0x80
	s := hex.EncodeToString(b[:])
	return strings.Join([]string{s[:8], s[8:12], s[12:16], s[16:20], s[20:]}, "-")
}
