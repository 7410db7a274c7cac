package oapi

import (
	"encoding/base64"
	"strconv"
)

// pageLimit is the largest page, and the default.
const pageLimit = 1000

// listRequest holds the parameters of every call that lists resources.
type listRequest struct {
	baseRequest
	NextPageToken  string  `json:"NextPageToken"`
	ResultsPerPage *int64  `json:"ResultsPerPage"`
	Filters        filters `json:"Filters"`
}

// nextPage is the token of the next page in a response; it is left out of the last one.
type nextPage struct {
	NextPageToken string `json:"NextPageToken,omitempty"`
}

// list returns the page of the resources that the filters of a request select.
func list[T any](in *listRequest, known map[string]filter[T], all []T) ([]T, nextPage, error) {
	selected, err := selectBy(in.Filters, known, all)
	if err != nil {
		return nil, nextPage{}, err
	}
	return page(in, selected)
}

// page returns the requested page and the token of the next one.
func page[T any](in *listRequest, all []T) ([]T, nextPage, error) {
	size := int64(pageLimit)
	if in.ResultsPerPage != nil {
		size = *in.ResultsPerPage
	}
	if size < 1 || size > pageLimit {
		return nil, nextPage{}, badValue.with("the value %d of the parameter ResultsPerPage is not from 1 to %d", size, pageLimit)
	}
	from, err := offset(in.NextPageToken)
	if err != nil {
		return nil, nextPage{}, err
	}
	from = min(from, int64(len(all)))
	to := min(from+size, int64(len(all)))
	next := nextPage{}
	if to < int64(len(all)) {
		next.NextPageToken = base64.StdEncoding.EncodeToString([]byte(strconv.FormatInt(to, 10)))
	}
	return append([]T{}, all[from:to]...), next, nil
}

// offset returns the number of resources on the pages before the one that a token stands for.
func offset(token string) (int64, error) {
	if token == "" {
		return 0, nil
	}
	text, err := base64.StdEncoding.DecodeString(token)
	if err != nil {
		return 0, badValue.with("the value %q of the parameter NextPageToken is not a token", token)
	}
	n, err := strconv.ParseInt(string(text), 10, 64)
	if err != nil || n < 0 {
		return 0, badValue.with("the value %q of the parameter NextPageToken is not a token", token)
	}
	return n, nil
}
