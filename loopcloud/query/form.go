package query

import (
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
)

// Form is the parameters of a request, by name, that nothing has taken yet.
type Form map[string]string

// Form reads the parameters from the query and, of a POST, from the body. Those that
// carry a signature are left out.
func (r *Request) Form() (Form, error) {
	const malformed = "MalformedQueryString"
	values, err := url.ParseQuery(r.HTTP.URL.RawQuery)
	if err != nil {
		return nil, Refuse(malformed, "The query string contains a syntax error.")
	}
	if r.HTTP.Method == http.MethodPost {
		more, err := url.ParseQuery(string(r.Body))
		if err != nil {
			return nil, Refuse(malformed, "The %s contains a syntax error.", r.service.BodyName)
		}
		for name, list := range more {
			values[name] = append(values[name], list...)
		}
	}
	f := Form{}
	for name, list := range values {
		if len(list) > 1 {
			return nil, Refuse(r.service.Repeated, "The parameter %s is given more than once", name)
		}
		if !strings.HasPrefix(name, "X-Amz-") {
			f[name] = list[0]
		}
	}
	return f, nil
}

// Take answers a parameter, empty if it is not given.
func (f Form) Take(name string) string {
	value := f[name]
	delete(f, name)
	return value
}

// TakeAction takes what every request names: the action, and the version of the API,
// which may be missing.
func (f Form) TakeAction() (action, version string, err error) {
	action, version = f.Take("Action"), f.Take("Version")
	if action == "" {
		err = Refuse("MissingAction", "The request must contain the parameter Action")
	}
	return action, version, err
}

// Done refuses, in the service's code for it, parameters that nothing took.
func (f Form) Done(code string) error {
	if len(f) > 0 {
		return Refuse(code, "The parameter %s is not recognized", slices.Min(slices.Collect(maps.Keys(f))))
	}
	return nil
}
