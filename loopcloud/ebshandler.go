//go:build linux

package loopcloud

import (
	"errors"
	"net/http"
	"os"
	"time"

	"github.com/packer-chroot/packer-plugin-chroot/loopcloud/wire"
)

// bodyTimeout is how long the body of a request to the EBS direct APIs may take. Their API has an
// error for this, but no documented time.
const bodyTimeout = time.Minute

// ebsHandler is the HTTP handler of the EBS direct APIs, which limit the time that a block takes to
// arrive.
type ebsHandler struct {
	*dialectHandler
	timeout time.Duration
}

// ServeHTTP reads a request and responds to it.
func (h ebsHandler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if h.refuseOrigin(w, r) {
		return
	}
	connection := http.NewResponseController(w)
	_ = connection.SetReadDeadline(time.Now().Add(h.timeout)) // a test's recorder has none
	in, err := wire.Read(w, r, maxBody)
	if errors.Is(err, os.ErrDeadlineExceeded) {
		w.Header().Set("Connection", "close")
		h.Refuse(w, http.StatusBadRequest, "ValidationException/WRITE_REQUEST_TIMEOUT", "The body was not received in time")
		return
	}
	_ = connection.SetReadDeadline(time.Time{})
	h.serve(w, in, err) //nolint:contextcheck // the request has its context
}
