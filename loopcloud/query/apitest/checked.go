package apitest

import (
	"bytes"
	"io"
	"net/http"
	"net/url"
)

// T is the part of testing.TB that Checked reports to.
type T interface {
	Helper()
	Errorf(format string, args ...any)
}

// Requests returns a handler that checks every request before next sees it, and fails the
// test if one is not as the model has it.
func (m *Model) Requests(t T, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		form, err := formOf(r)
		if err == nil && form != nil {
			err = m.Request(form)
		}
		if err != nil {
			t.Errorf("%v: %s", err, form.Encode())
		}
		next.ServeHTTP(w, r)
	})
}

// Answers returns a handler that checks every answer of next to a call of the APIs, and fails
// the test if one is not as the model has it.
func (m *Model) Answers(t T, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		form, err := formOf(r)
		if err == nil {
			_, err = m.call(form.Get("Version"), form.Get("Action"))
		}
		if err != nil {
			next.ServeHTTP(w, r)
			return
		}
		seen := &recorder{ResponseWriter: w, status: http.StatusOK}
		next.ServeHTTP(seen, r)
		if err := m.Answer(form.Get("Version"), form.Get("Action"), seen.status, seen.body.Bytes()); err != nil {
			t.Errorf("%v: %s", err, &seen.body)
		}
	})
}

// formOf returns the form of a call, nil if the request is none, or is one of KMS, which names
// its action in a header. Its body can be read again. A request whose client goes away in the
// middle, as one that is killed does, ends here.
func formOf(r *http.Request) (url.Values, error) {
	if r.Method != http.MethodPost || r.URL.Path != "/" || r.Header.Get("X-Amz-Target") != "" {
		return nil, nil
	}
	body, err := io.ReadAll(r.Body)
	if err != nil {
		panic(http.ErrAbortHandler)
	}
	r.Body = io.NopCloser(bytes.NewReader(body))
	return url.ParseQuery(string(body))
}

// recorder keeps an answer.
type recorder struct {
	http.ResponseWriter
	status int
	body   bytes.Buffer
}

func (r *recorder) WriteHeader(status int) {
	r.status = status
	r.ResponseWriter.WriteHeader(status)
}

func (r *recorder) Write(p []byte) (int, error) {
	r.body.Write(p)
	return r.ResponseWriter.Write(p)
}
