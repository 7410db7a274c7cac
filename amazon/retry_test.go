package amazon

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"reflect"
	"testing"

	"github.com/aws/smithy-go"
	smithyhttp "github.com/aws/smithy-go/transport/http"

	"github.com/packer-chroot/packer-plugin-chroot/retry"
)

// answered is an error in a response of EC2.
func answered(status int, code string) error {
	return &smithyhttp.ResponseError{
		Response: &smithyhttp.Response{Response: &http.Response{StatusCode: status}}, Err: &smithy.GenericAPIError{Code: code},
	}
}

// TestKinds checks the kind of each error.
func TestKinds(t *testing.T) {
	broken := func(err error) error { return &smithyhttp.RequestSendError{Err: err} }
	for _, test := range []struct {
		err  error
		want retry.Kind
	}{
		{answered(503, "RequestLimitExceeded"), retry.Throttled},
		{answered(400, "Throttling"), retry.Throttled},
		{answered(400, "ThrottlingException"), retry.Throttled},
		{answered(429, ""), retry.Throttled},
		{fmt.Errorf("no keys: %w", answered(400, "Throttling")), retry.Throttled},
		{answered(500, "InternalError"), retry.Fault},
		{answered(502, ""), retry.Fault},
		{answered(503, "Unavailable"), retry.Fault},
		{answered(504, ""), retry.Fault},
		{answered(500, "InsufficientVolumeCapacity"), retry.Permanent},
		{answered(501, ""), retry.Permanent},
		{answered(400, "InvalidVolume.NotFound"), retry.Permanent},
		{answered(403, "UnauthorizedOperation"), retry.Permanent},
		{answered(400, "RequestTimeout"), retry.Lost},
		{broken(io.ErrUnexpectedEOF), retry.Lost},
		{broken(context.DeadlineExceeded), retry.Lost},
		{broken(&net.OpError{Op: "read", Err: errors.New("connection reset by peer")}), retry.Lost},
		{broken(&net.OpError{Op: "dial", Err: errors.New("connection refused")}), retry.Unreached},
		{broken(&net.OpError{Op: "dial", Err: &net.DNSError{IsNotFound: true}}), retry.Permanent},
		{broken(&tls.CertificateVerificationError{}), retry.Permanent},
		{broken(http.ErrSchemeMismatch), retry.Permanent},
		{&smithy.DeserializationError{Err: errors.New("no XML")}, retry.Permanent},
		{errors.New("something"), retry.Permanent},
		{nil, retry.Permanent},
	} {
		if got := kindOf(test.err); got != test.want {
			t.Errorf("%v: %v, want %v", test.err, got, test.want)
		}
	}
}

// TestUnreachedEndpointRetries checks that an endpoint that has responded before is retried
// for longer.
func TestUnreachedEndpointRetries(t *testing.T) {
	server := serve(t, &fake{actions: map[string]action{"DescribeImages": answer("DescribeImages", "<imagesSet/>")}})
	for _, reached := range []bool{false, true} {
		cloud := NewCloud(dial(t, access(server.URL)), &Config{}, nil)
		want := retry.UnreachedFor
		if reached {
			want = retry.FailingFor
			cloud.client.reached.Store(true)
		}
		if !reached {
			server.Close()
		}
		says(t, look(t.Context(), cloud), "without a connection since 07:00:00 UTC", server.URL)
		if passed := clockOf(cloud).Passed(); passed != want {
			t.Errorf("reached before %t: gave up after %v, want %v", reached, passed, want)
		}
	}
}

// TestTableOfOperations checks that each operation of a build, and no other, has an entry.
func TestTableOfOperations(t *testing.T) {
	want := map[string]bool{"AssumeRole": true, "AssumeRoleWithWebIdentity": true, "GetCallerIdentity": true}
	for i := range reflect.TypeFor[calls]().NumField() {
		want[reflect.TypeFor[calls]().Field(i).Name] = true
	}
	for action := range want {
		if operations[action].Repeat == 0 {
			t.Errorf("the table does not say how %s is made again", action)
		}
	}
	for action := range operations {
		if !want[action] {
			t.Errorf("the table has %s, which no build makes", action)
		}
	}
}
