package apitest

import (
	"net/http"
	"net/url"

	"github.com/packer-chroot/packer-plugin-chroot/loopcloud/wiretest"
)

// T is the part of testing.TB that the checks use.
type T interface {
	Helper()
	Errorf(format string, args ...any)
}

// Requests returns a handler that checks every request before next sees it, and fails the test if
// one does not conform to the model.
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

// Answers returns a handler that checks every response of next, and fails the test if one does
// not conform to the model.
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
		seen := wiretest.Record(w)
		next.ServeHTTP(seen, r)
		if err := m.Answer(form.Get("Version"), form.Get("Action"), seen.Status, seen.Body.Bytes()); err != nil {
			t.Errorf("%v: %s", err, &seen.Body)
		}
	})
}

// formOf returns the form of a call, nil if the request is not a call or is for KMS, which names
// its action in a header. The body can be read again.
func formOf(r *http.Request) (url.Values, error) {
	if r.Method != http.MethodPost || r.URL.Path != "/" || r.Header.Get("X-Amz-Target") != "" {
		return nil, nil
	}
	return url.ParseQuery(string(wiretest.Body(r)))
}
