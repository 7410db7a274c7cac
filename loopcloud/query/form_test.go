package query

import (
	"net/http/httptest"
	"reflect"
	"testing"

	"github.com/packer-chroot/packer-plugin-chroot/loopcloud/wire"
)

// form returns the form of a request to a service.
func form(method, target, body string) (Form, error) {
	h := New(Service{BodyName: "body", Repeated: "Twice"})
	return h.request(wire.New(httptest.NewRequest(method, target, nil), []byte(body))).Form()
}

func TestForm(t *testing.T) {
	f, err := form("POST", "/?A=1&X-Amz-Signature=s", "B=a+b%26c")
	if want := (Form{"A": "1", "B": "a b&c"}); err != nil || !reflect.DeepEqual(f, want) {
		t.Errorf("got %v, %v", f, err)
	}
	if f, err = form("GET", "/?A=1", "B=2"); err != nil || len(f) != 1 {
		t.Errorf("a GET has no body, got %v, %v", f, err)
	}
	for body, want := range map[string]string{
		"A=%zz":   "MalformedQueryString: The body contains a syntax error.",
		"A=1&A=2": "Twice: The parameter A is given more than once",
	} {
		if _, err = form("POST", "/", body); err == nil || err.Error() != want {
			t.Errorf("%s: got %v, want %s", body, err, want)
		}
	}
	if _, err = form("POST", "/?A=1", "A=1"); err == nil {
		t.Error("a parameter in both query and body was accepted")
	}
}

func TestTake(t *testing.T) {
	f := Form{"Action": "Fly", "B": "b", "C": "c"}
	if action, version, err := f.TakeAction(); action != "Fly" || version != "" || err != nil {
		t.Errorf("got %q, %q, %v", action, version, err)
	}
	if f.Take("B") != "b" || f.Take("B") != "" {
		t.Error("a parameter is taken once")
	}
	if err := f.Done("Unknown"); err == nil || err.Error() != "Unknown: The parameter C is not recognized" {
		t.Errorf("got %v", err)
	}
	if _, _, err := f.TakeAction(); err == nil || err.Error() != "MissingAction: The request must contain the parameter Action" {
		t.Errorf("got %v", err)
	}
	if f.Take("C"); f.Done("Unknown") != nil {
		t.Error("nothing is left, and refused")
	}
}
