package amazon

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/packer-chroot/packer-plugin-chroot/retry"
)

// TestPollAfterClockIsSet checks that a wait continues after the clock of this machine was
// set. AWS refuses one signature, and returns the right time with the refusal.
func TestPollAfterClockIsSet(t *testing.T) {
	refused := 0
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		now := time.Now().Add(20 * time.Minute).UTC()
		w.Header().Set("Date", now.Format(http.TimeFormat))
		signed, err := time.Parse("20060102T150405Z", r.Header.Get("X-Amz-Date"))
		if err != nil || now.Sub(signed).Abs() > 5*time.Minute {
			refused++
			w.WriteHeader(http.StatusForbidden)
			fmt.Fprint(w, "<Response><Errors><Error><Code>AuthFailure</Code><Message>AWS was not able to validate the provided access credentials</Message></Error></Errors></Response>")
			return
		}
		fmt.Fprint(w, "<DescribeImagesResponse><imagesSet/></DescribeImagesResponse>")
	}))
	t.Cleanup(server.Close)
	cloud := NewCloud(dial(t, access(server.URL)), &Config{}, nil)
	if err := look(retry.Once(t.Context()), cloud); err != nil || refused != 1 {
		t.Errorf("%v after %d refusals", err, refused)
	}
}
