// Package apitest checks requests and responses of the Outscale API against Outscale's
// description, an OpenAPI document in the SDK's module.
package apitest

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os/exec"
	"path"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"time"

	"github.com/getkin/kin-openapi/openapi3"

	"github.com/packer-chroot/packer-plugin-chroot/loopcloud/wiretest"
)

// sdk is the module that contains the description.
const sdk = "github.com/outscale/osc-sdk-go/v3"

// Description is Outscale's description of its API.
type Description struct{ doc *openapi3.T }

// Load returns the description. It is loaded once in a process.
var Load = sync.OnceValues(func() (*Description, error) {
	dir, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", sdk).Output()
	if err != nil {
		return nil, fmt.Errorf("cannot find the module %s: %w", sdk, err)
	}
	file := filepath.Join(strings.TrimSpace(string(dir)), "pkg", "osc", "api.yaml")
	for _, format := range []string{"date", "date-time"} {
		openapi3.DefineStringFormatValidator(format, openapi3.NewCallbackValidator(isDate))
	}
	doc, err := openapi3.NewLoader().LoadFromFile(file)
	if err != nil {
		return nil, fmt.Errorf("cannot read the description of the API: %w", err)
	}
	for _, schema := range doc.Components.Schemas {
		enumerate(schema.Value)
	}
	return &Description{doc}, nil
})

// documented matches the beginning of a property's description that lists its values.
var documented = regexp.MustCompile("^[^.(]*\\(`([a-z0-9.-]+`(?: \\\\?\\| `[a-z0-9.-]+`)+)\\)")

// enumerate adds enumerations to the properties of a schema whose descriptions list values:
// Outscale's document has few enumerations. It leaves filters out, because their values may
// contain wildcards.
func enumerate(s *openapi3.Schema) {
	for _, p := range s.Properties {
		m := documented.FindStringSubmatch(strings.Join(strings.Fields(p.Value.Description), " "))
		if m == nil || p.Value.Enum != nil || !p.Value.Type.Is("string") {
			continue
		}
		for _, value := range regexp.MustCompile("[a-z0-9.-]+").FindAllString(m[1], -1) {
			p.Value.Enum = append(p.Value.Enum, value)
		}
	}
}

// isDate accepts a date with or without a time for both formats: the examples of "date" fields in
// the description have a time.
func isDate(s string) error {
	if _, err := time.Parse(time.DateOnly, s); err == nil {
		return nil
	}
	_, err := time.Parse(time.RFC3339, s)
	return err
}

// Request returns an error if the body of a request does not conform to the description.
func (d *Description) Request(call string, body []byte) error {
	op, err := d.operation(call)
	if err != nil {
		return err
	}
	if err := conforms(op.RequestBody.Value.Content, body, openapi3.VisitAsRequest()); err != nil {
		return fmt.Errorf("request of %s: %w: %s", call, err, body)
	}
	return nil
}

// Answer returns an error if a response does not conform to the description. A status that the
// description does not list must have the form of an error: the description omits throttling and
// internal errors.
func (d *Description) Answer(call string, status int, body []byte) error {
	op, err := d.operation(call)
	if err != nil {
		return err
	}
	content := d.refusal()
	if answer := op.Responses.Status(status); answer != nil {
		content = answer.Value.Content
	}
	if err := conforms(content, body, openapi3.VisitAsResponse()); err != nil {
		return fmt.Errorf("response %d to %s: %w: %s", status, call, err, body)
	}
	return nil
}

func (d *Description) operation(call string) (*openapi3.Operation, error) {
	item := d.doc.Paths.Find("/" + call)
	if item == nil || item.Post == nil {
		return nil, fmt.Errorf("the API has no call %q", call)
	}
	return item.Post, nil
}

// refusal returns the schema of an error response.
func (d *Description) refusal() openapi3.Content {
	return openapi3.NewContentWithJSONSchemaRef(d.doc.Components.Schemas["ErrorResponse"])
}

func conforms(content openapi3.Content, body []byte, as openapi3.SchemaValidationOption) error {
	media := content.Get("application/json")
	if media == nil || media.Schema == nil {
		return fmt.Errorf("the description has no JSON here")
	}
	var value any
	if err := json.Unmarshal(body, &value); err != nil {
		return err
	}
	return media.Schema.Value.VisitJSON(value, as, openapi3.MultiErrors())
}

// T is the part of testing.TB that the checks use.
type T interface {
	Helper()
	Errorf(format string, args ...any)
}

// Requests returns a handler that checks every request before next sees it, and fails the
// test if one does not conform to the description.
func (d *Description) Requests(t T, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if call := path.Base(r.URL.Path); d.has(call) {
			if err := d.Request(call, wiretest.Body(r)); err != nil {
				t.Errorf("%v", err)
			}
		}
		next.ServeHTTP(w, r)
	})
}

// Answers returns a handler that checks every response of next, and fails the test if one does
// not conform to the description.
func (d *Description) Answers(t T, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { d.answers(t, next, w, r) })
}

// answers checks one response. It returns its status, 0 if the request is not a call.
func (d *Description) answers(t T, next http.Handler, w http.ResponseWriter, r *http.Request) (status int) {
	call := path.Base(r.URL.Path)
	if !d.has(call) {
		next.ServeHTTP(w, r)
		return 0
	}
	seen := wiretest.Record(w)
	next.ServeHTTP(seen, r)
	if err := d.Answer(call, seen.Status, seen.Body.Bytes()); err != nil {
		t.Errorf("%v", err)
	}
	return seen.Status
}

// Checked returns a handler that checks every response of next, and the requests that succeeded:
// a test may send an invalid request to see it refused.
func (d *Description) Checked(t T, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked := wiretest.Body(r)
		if d.answers(t, next, w, r) != http.StatusOK {
			return
		}
		if err := d.Request(path.Base(r.URL.Path), asked); err != nil {
			t.Errorf("%v", err)
		}
	})
}

// has reports whether the API has a call.
func (d *Description) has(call string) bool {
	_, err := d.operation(call)
	return err == nil
}
