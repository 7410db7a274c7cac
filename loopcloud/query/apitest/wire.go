package apitest

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"net/url"
)

// wire is the HTTP client of the SDK's clients here. It sends nothing: it puts the request into,
// and takes the response from, the exchange in the context.
type wire struct{}

type exchangeKey struct{}

// exchange is a request of the SDK and the response to it.
type exchange struct {
	form   url.Values
	status int
	answer []byte
}

func (wire) Do(r *http.Request) (*http.Response, error) {
	e, ok := r.Context().Value(exchangeKey{}).(*exchange)
	if !ok {
		return nil, fmt.Errorf("%s is outside of an exchange", r.URL)
	}
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return nil, err
	}
	if e.form, err = url.ParseQuery(string(body)); err != nil {
		return nil, err
	}
	return &http.Response{
		StatusCode: e.status, Header: http.Header{"Content-Type": {"text/xml"}}, Request: r,
		Body: io.NopCloser(bytes.NewReader(e.answer)), ContentLength: int64(len(e.answer)),
	}, nil
}
