package oapi

import (
	"encoding/base64"
	"strconv"
)

// pageLimit is the largest page, and that of a client that does not say.
const pageLimit = 1000

// paging is what every call that reads page by page takes.
type paging struct {
	common
	NextPageToken  string `json:"NextPageToken"`
	ResultsPerPage *int64 `json:"ResultsPerPage"`
}

// page puts the page that is asked for into an answer, under the field's name,
// and the token of the next one if there is one.
func page[T any](p paging, field string, all []T) (answer, error) {
	size := int64(pageLimit)
	if p.ResultsPerPage != nil {
		size = *p.ResultsPerPage
	}
	if size < 1 || size > pageLimit {
		return nil, badValue.with("the value %d of the parameter ResultsPerPage is not from 1 to %d", size, pageLimit)
	}
	from, err := offset(p.NextPageToken)
	switch {
	case err != nil:
		return nil, err
	case p.DryRun:
		return nil, errDryRun
	}
	from = min(from, int64(len(all)))
	to := min(from+size, int64(len(all)))
	a := answer{field: append([]T{}, all[from:to]...)}
	if to < int64(len(all)) {
		a["NextPageToken"] = base64.StdEncoding.EncodeToString([]byte(strconv.FormatInt(to, 10)))
	}
	return a, nil
}

// offset reads a token: how many things the pages before have had.
func offset(token string) (int64, error) {
	if token == "" {
		return 0, nil
	}
	text, err := base64.StdEncoding.DecodeString(token)
	if err != nil {
		return 0, badValue.with("the value %q of the parameter NextPageToken is no token", token)
	}
	n, err := strconv.ParseInt(string(text), 10, 64)
	if err != nil || n < 0 {
		return 0, badValue.with("the value %q of the parameter NextPageToken is no token", token)
	}
	return n, nil
}
