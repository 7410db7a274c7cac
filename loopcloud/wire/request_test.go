package wire_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"reflect"
	"strings"
	"testing"

	"github.com/packer-chroot/packer-plugin-chroot/loopcloud/wire"
)

func TestRead(t *testing.T) {
	r := httptest.NewRequest(http.MethodPost, "/?A=1&B=%zz", strings.NewReader("C=3&D=%zz"))
	in, err := wire.Read(httptest.NewRecorder(), r, 9)
	if err != nil || string(in.Body) != "C=3&D=%zz" || in.HTTP != r {
		t.Fatalf("got %q of %p, want the whole body of %p: %v", in.Body, in.HTTP, r, err)
	}
	if want := map[string][]string{"A": {"1"}}; !reflect.DeepEqual(map[string][]string(in.Query), want) || in.QueryErr == nil {
		t.Errorf("the URL has %v, %v; want %v and a syntax error", in.Query, in.QueryErr, want)
	}
	form, err := in.BodyForm()
	if want := map[string][]string{"C": {"3"}}; !reflect.DeepEqual(map[string][]string(form), want) || err == nil {
		t.Errorf("the body has %v, %v; want %v and a syntax error", form, err, want)
	}
}

func TestBodyFormIsParsedOnce(t *testing.T) {
	in := wire.New(httptest.NewRequest(http.MethodPost, "/", nil), []byte("A=1"))
	first, _ := in.BodyForm()
	second, _ := in.WithContext(t.Context()).BodyForm()
	if reflect.ValueOf(first).Pointer() != reflect.ValueOf(second).Pointer() {
		t.Error("the body was parsed twice")
	}
}

func TestReadTooMuch(t *testing.T) {
	r := httptest.NewRequest(http.MethodPost, "/", strings.NewReader("0123456789"))
	in, err := wire.Read(httptest.NewRecorder(), r, 4)
	var tooLarge *http.MaxBytesError
	if !errors.As(err, &tooLarge) || string(in.Body) != "0123" {
		t.Errorf("got %q, %v; want the first 4 bytes and an error", in.Body, err)
	}
}

func TestReadBrokenBody(t *testing.T) {
	broken := errors.New("broken")
	r := httptest.NewRequest(http.MethodPost, "/", io.MultiReader(strings.NewReader("Version=1"), failing{broken}))
	in, err := wire.Read(httptest.NewRecorder(), r, 100)
	if form, _ := in.BodyForm(); !errors.Is(err, broken) || form.Get("Version") != "1" {
		t.Errorf("got %v, %v; want the beginning of the body and the error", form, err)
	}
}

// failing is a reader that always fails.
type failing struct{ err error }

func (f failing) Read([]byte) (int, error) { return 0, f.err }

func TestWithContext(t *testing.T) {
	in := wire.New(httptest.NewRequest(http.MethodPost, "/?A=1", nil), []byte("body"))
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	copied := in.WithContext(ctx)
	if copied.HTTP.Context().Err() == nil || in.HTTP.Context().Err() != nil {
		t.Error("the context of the copy must be the new one, that of the original the old one")
	}
	if string(copied.Body) != "body" || copied.Query.Get("A") != "1" {
		t.Errorf("the copy has the body %q and the query %v", copied.Body, copied.Query)
	}
}

func TestCheckSize(t *testing.T) {
	in := wire.New(httptest.NewRequest(http.MethodPost, "/", nil), []byte("body"))
	if err := in.CheckSize(4); err != nil {
		t.Errorf("a body of 4 bytes: %v", err)
	}
	if err := in.CheckSize(3); err == nil || err.Error() != "http: request body too large" {
		t.Errorf("a body of more than 3 bytes: %v", err)
	}
}
