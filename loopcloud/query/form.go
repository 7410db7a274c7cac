package query

import (
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
)

// Form holds the parameters of a request, by name. Decoding a parameter removes it.
type Form map[string]string

// Form returns the parameters of the URL and, for a POST, of the body. Those that carry a
// signature are left out.
func (r *Request) Form() (Form, error) {
	const malformed = "MalformedQueryString"
	if r.QueryErr != nil {
		return nil, Refuse(malformed, "The query string contains a syntax error.")
	}
	all := url.Values{}
	add(all, r.Query)
	if r.HTTP.Method == http.MethodPost {
		body, err := r.BodyForm()
		if err != nil {
			return nil, Refuse(malformed, "The %s contains a syntax error.", r.service.BodyName)
		}
		add(all, body)
	}
	f := Form{}
	for name, values := range all {
		if len(values) > 1 {
			return nil, Refuse(r.service.Repeated, "The parameter %s is given more than once", name)
		}
		if !strings.HasPrefix(name, "X-Amz-") {
			f[name] = values[0]
		}
	}
	return f, nil
}

// add appends the values of each name in from to those in to.
func add(to, from url.Values) {
	for name, values := range from {
		to[name] = append(to[name], values...)
	}
}

// Take removes a parameter and returns it, "" if it is missing.
func (f Form) Take(name string) string {
	value := f[name]
	delete(f, name)
	return value
}

// TakeAction takes the action, which every request must name, and the version of the API, which
// may be missing.
func (f Form) TakeAction() (action, version string, err error) {
	action, version = f.Take("Action"), f.Take("Version")
	if action == "" {
		err = Refuse("MissingAction", "The request must contain the parameter Action")
	}
	return action, version, err
}

// Done returns an error with this code if parameters remain in the form.
func (f Form) Done(code string) error {
	if len(f) > 0 {
		return Refuse(code, "The parameter %s is not recognized", slices.Min(slices.Collect(maps.Keys(f))))
	}
	return nil
}
