package amazon

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

// TestKMSEndpoint checks that the endpoint of KMS is in the region of EC2, in every partition.
// There is none if EC2 has a custom endpoint.
func TestKMSEndpoint(t *testing.T) {
	for name, test := range map[string]struct {
		region string
		change func(*AccessConfig)
		env    map[string]string
		want   string
	}{
		"ordinary":            {"eu-west-1", nil, nil, "https://kms.eu-west-1.amazonaws.com"},
		"China":               {"cn-north-1", nil, nil, "https://kms.cn-north-1.amazonaws.com.cn"},
		"GovCloud":            {"us-gov-west-1", nil, nil, "https://kms.us-gov-west-1.amazonaws.com"},
		"isolated":            {"us-iso-east-1", nil, nil, "https://kms.us-iso-east-1.c2s.ic.gov"},
		"FIPS":                {"us-east-1", func(a *AccessConfig) { a.UseFIPSEndpoint = true }, nil, "https://kms-fips.us-east-1.amazonaws.com"},
		"dual stack":          {"us-east-1", func(a *AccessConfig) { a.UseDualStackEndpoint = true }, nil, "https://kms.us-east-1.api.aws"},
		"dual stack in China": {"cn-north-1", func(a *AccessConfig) { a.UseDualStackEndpoint = true }, nil, "https://kms.cn-north-1.api.amazonwebservices.com.cn"},
		"its own":             {"eu-west-1", nil, map[string]string{"AWS_ENDPOINT_URL_KMS": "https://keys.example.com"}, "https://keys.example.com"},
		"that of all":         {"eu-west-1", nil, map[string]string{"AWS_ENDPOINT_URL": "https://aws.example.com"}, "https://aws.example.com"},
		"EC2 is elsewhere":    {"eu-west-1", func(a *AccessConfig) { a.CustomEndpointEC2 = "https://ec2.example.com" }, nil, ""},
		"EC2's is elsewhere":  {"eu-west-1", nil, map[string]string{"AWS_ENDPOINT_URL_EC2": "https://ec2.example.com"}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			alone(t)
			for key, value := range test.env {
				t.Setenv(key, value)
			}
			a := access("")
			a.Region = test.region
			if test.change != nil {
				test.change(&a)
			}
			if got := dial(t, a).keyService(context.Background()); got != test.want {
				t.Errorf("KMS is at %q, want %q", got, test.want)
			}
		})
	}
}

// TestDescribeKeyResponses checks that only an unambiguous response of KMS counts.
func TestDescribeKeyResponses(t *testing.T) {
	for body, want := range map[string]keyHolder{
		`{"KeyMetadata":{"KeyManager":"AWS"}}`:      managedByAWS,
		`{"KeyMetadata":{"KeyManager":"CUSTOMER"}}`: managedByCustomer,
		`{"KeyMetadata":{"KeyManager":"ME"}}`:       managerUnknown,
		`{"KeyMetadata":{}}`:                        managerUnknown,
		`{"KeyMetadata":[]}`:                        managerUnknown,
		``:                                          managerUnknown,
		`<html>`:                                    managerUnknown,
		"\x00400":                                   managerUnknown, // with the status 400
	} {
		t.Run(body, func(t *testing.T) {
			alone(t)
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if got := r.Header.Get("Authorization"); !strings.Contains(got, "/eu-west-1/kms/aws4_request") || r.Header.Get("X-Amz-Target") != describeKey {
					t.Errorf("asked with %q", got)
				}
				if body == "\x00400" {
					w.WriteHeader(http.StatusBadRequest)
				}
				fmt.Fprint(w, body)
			}))
			defer server.Close()
			t.Setenv("AWS_ENDPOINT_URL_KMS", server.URL)
			if got := dial(t, access("")).keyManager(context.Background(), "key"); got != want {
				t.Errorf("%s: %d, want %d", body, got, want)
			}
		})
	}
	t.Run("nobody answers", func(t *testing.T) {
		alone(t)
		t.Setenv("AWS_ENDPOINT_URL_KMS", "http://127.0.0.1:1")
		if got := dial(t, access("")).keyManager(context.Background(), "key"); got != managerUnknown {
			t.Errorf("%d", got)
		}
	})
}

// FuzzKeyAnswer: no manager is read from a response that is no success.
func FuzzKeyAnswer(f *testing.F) {
	f.Add(200, `{"KeyMetadata":{"KeyManager":"AWS"}}`)
	f.Add(400, `{"KeyMetadata":{"KeyManager":"AWS"}}`)
	f.Add(200, `[`)
	f.Fuzz(func(t *testing.T, status int, body string) {
		described, err := decodeKey(&http.Response{StatusCode: status, Body: io.NopCloser(strings.NewReader(body))})
		if described != (keyMetadata{}) && status != http.StatusOK {
			t.Errorf("%d %q: %+v, %v", status, body, described, err)
		}
	})
}
