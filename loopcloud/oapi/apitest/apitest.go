// Package apitest holds what is said over the Outscale API against Outscale's own
// description of it, an OpenAPI document that the SDK's module carries.
package apitest

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os/exec"
	"path"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/getkin/kin-openapi/openapi3"
)

// sdk is the module that carries the description.
const sdk = "github.com/outscale/osc-sdk-go/v3"

// Description is what Outscale says of its API.
type Description struct{ doc *openapi3.T }

// Load reads the description, once in a process.
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
	return &Description{doc}, nil
})

// isDate takes a date with or without a time wherever the description says either:
// its own examples of fields that are a "date" have a time.
func isDate(s string) error {
	if _, err := time.Parse(time.DateOnly, s); err == nil {
		return nil
	}
	_, err := time.Parse(time.RFC3339, s)
	return err
}

// Request tells what is wrong with the body of a call.
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

// Answer tells what is wrong with the answer to a call. A status that the
// description does not have for the call must have the form of an error: the
// description is silent about throttling and the server's own faults.
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
		return fmt.Errorf("answer %d to %s: %w: %s", status, call, err, body)
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

// refusal is the form of an error.
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

// T is what a test is told through.
type T interface {
	Helper()
	Errorf(format string, args ...any)
}

// Checked is a handler of the Outscale API all of whose calls are held against the
// description: each answer, and each request that was not refused, for a refused
// one may be wrong on purpose. It fails the test where they differ.
func (d *Description) Checked(t T, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		call := path.Base(r.URL.Path)
		if _, err := d.operation(call); err != nil {
			next.ServeHTTP(w, r)
			return
		}
		asked, err := io.ReadAll(r.Body)
		if err != nil {
			t.Errorf("cannot read the request of %s: %v", call, err)
		}
		r.Body = io.NopCloser(bytes.NewReader(asked))
		seen := &recorder{ResponseWriter: w, status: http.StatusOK}
		next.ServeHTTP(seen, r)
		if err := d.Answer(call, seen.status, seen.body.Bytes()); err != nil {
			t.Errorf("%v", err)
		}
		if seen.status != http.StatusOK {
			return
		}
		if err := d.Request(call, asked); err != nil {
			t.Errorf("%v", err)
		}
	})
}

// recorder keeps what is answered.
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
