package query

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/packer-chroot/packer-plugin-chroot/loopcloud/sigv4"
	"github.com/packer-chroot/packer-plugin-chroot/loopcloud/state"
	"github.com/packer-chroot/packer-plugin-chroot/loopcloud/wire"
)

// echo is a service that returns the name of the action.
var echo = Service{
	MaxBody: 64, BodyName: "body", Repeated: "Twice", Prologue: "<?x?>", Header: map[string]string{"Content-Type": "text/x"},
	Answer: func(r *Request) (Document, error) {
		f, err := r.Form()
		if err != nil {
			return Document{}, err
		}
		action, _, err := f.TakeAction()
		switch action {
		case "Break":
			return Document{}, errors.New("broken")
		case "Odd":
			return Document{Root: "Odd", Content: func() {}}, nil
		}
		return Document{Root: action, Namespace: "urn:x", Content: "<" + r.ID}, err
	},
	Refusal: func(err error) *Error { return Forbid("No", "%v", err) },
	Failure: func(e *Error, id string) Document { return Document{Root: e.Code, Content: e.Message + "|" + id} },
}

func TestHandler(t *testing.T) {
	for body, test := range map[string]struct {
		status int
		want   string
	}{
		"Action=Say":   {200, `<?x?><Say xmlns="urn:x">&lt;ID</Say>`},
		"Action=Break": {403, "<?x?><No>broken|ID</No>"},
		"":             {400, "<?x?><MissingAction>The request must contain the parameter Action|ID</MissingAction>"},
		"Action=" + strings.Repeat("x", 64): {400,
			"<?x?><MalformedQueryString>The request body cannot be read: http: request body too large|ID</MalformedQueryString>"},
	} {
		w := httptest.NewRecorder()
		New(echo).ServeHTTP(w, httptest.NewRequest(http.MethodPost, "/", strings.NewReader(body)))
		if got := withoutID(w); w.Code != test.status || got != test.want {
			t.Errorf("%s: got %d %s, want %s", body, w.Code, got, test.want)
		}
	}
	w := httptest.NewRecorder()
	New(echo).Refuse(w, http.StatusTeapot, "Short", "stout")
	if got := withoutID(w); w.Code != http.StatusTeapot || got != "<?x?><Short>stout|ID</Short>" || w.Header().Get("Content-Type") != "text/x" {
		t.Errorf("got %d %s", w.Code, got)
	}
}

// TestResponseThatCannotBeEncoded checks that a response that cannot be encoded is an internal
// error.
func TestResponseThatCannotBeEncoded(t *testing.T) {
	w := httptest.NewRecorder()
	New(echo).ServeHTTP(w, httptest.NewRequest(http.MethodPost, "/", strings.NewReader("Action=Odd")))
	if w.Code != http.StatusInternalServerError || !strings.Contains(w.Body.String(), "cannot encode the response") {
		t.Errorf("got %d %s", w.Code, w.Body)
	}
}

func TestCaller(t *testing.T) {
	alice, broken := state.Caller{Account: "alice"}, errors.New("broken")
	for err, want := range map[error]string{
		nil:                "",
		sigv4.ErrMissing:   "MissingAuthenticationToken: Request is missing Authentication Token",
		sigv4.ErrMalformed: "IncompleteSignature: The request signature does not conform to AWS standards: " + sigv4.ErrMalformed.Error(),
		broken:             "Own: broken",
	} {
		h := New(Service{
			Authorize:    func(*http.Request, []byte, string) (state.Caller, error) { return alice, err },
			Unauthorized: func(err error) *Error { return Refuse("Own", "%v", err) },
		})
		caller, got := h.request(wire.New(httptest.NewRequest(http.MethodPost, "/", nil), nil)).Caller()
		if caller != alice || (got == nil) != (err == nil) || got != nil && got.Error() != want {
			t.Errorf("%v: got %v, %v", err, caller, got)
		}
	}
}

// withoutID returns the body with its request ID replaced.
func withoutID(w *httptest.ResponseRecorder) string {
	return strings.ReplaceAll(w.Body.String(), w.Header().Get("X-Amzn-Requestid"), "ID")
}
