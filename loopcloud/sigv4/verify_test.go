package sigv4_test

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/signer/v4"

	"github.com/packer-chroot/packer-plugin-chroot/loopcloud/sigv4"
)

var pair = aws.Credentials{AccessKeyID: "AKIDEXAMPLE", SecretAccessKey: "secret/with+signs"}

func secrets(id string) (string, bool) { return pair.SecretAccessKey, id == pair.AccessKeyID }

func sumOf(body string) string {
	sum := sha256.Sum256([]byte(body))
	return hex.EncodeToString(sum[:])
}

// asReceived sends a request through a real server, which rearranges headers, and returns the
// result of Verify there.
func asReceived(t *testing.T, r *http.Request, now time.Time) (sigv4.Credential, error) {
	t.Helper()
	var credential sigv4.Credential
	var refusal error
	server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			t.Errorf("reading the body: %v", err)
		}
		credential, refusal = sigv4.Verify(r, body, now, secrets)
	}))
	defer server.Close()
	// The request has the host that it was signed for; only the connection goes to the test
	// server.
	r.Host = r.URL.Host
	r.URL.Host = server.Listener.Addr().String()
	r.URL.Scheme = "http"
	response, err := server.Client().Do(r)
	if err != nil {
		t.Fatal(err)
	}
	response.Body.Close()
	return credential, refusal
}

func newRequest(t *testing.T, method, url, body string) *http.Request {
	t.Helper()
	r, err := http.NewRequestWithContext(context.Background(), method, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	return r
}

var signedAt = time.Date(2026, 3, 4, 5, 6, 7, 0, time.UTC)

// signed returns a request with a signature header by the AWS SDK's signer.
func signed(t *testing.T, method, url, body string, headers map[string]string) *http.Request {
	t.Helper()
	r := newRequest(t, method, url, body)
	for name, value := range headers {
		r.Header.Set(name, value)
	}
	err := v4.NewSigner().SignHTTP(context.Background(), pair, r, sumOf(body), "ec2", "eu-west-3", signedAt)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestVerifyAcceptsTheSDK(t *testing.T) {
	want := sigv4.Credential{KeyID: "AKIDEXAMPLE", Date: "20260304", Region: "eu-west-3", Service: "ec2"}
	tests := map[string]struct {
		method, url, body string
		headers           map[string]string
	}{
		"post":           {method: "POST", url: "http://ec2.example/", body: "Action=DescribeVolumes"},
		"get":            {method: "GET", url: "http://ec2.example/?Action=DescribeVolumes&Version=2016-11-15"},
		"no path":        {method: "GET", url: "http://ec2.example"},
		"a port":         {method: "POST", url: "http://127.0.0.1:4321/", body: "x"},
		"odd query":      {method: "GET", url: "http://ec2.example/?b=2&a=z&a=b&a-b=1&v=a/b&v=a-b&empty=&sp=a+b%2Fc&%C3%A9=~"},
		"odd path":       {method: "POST", url: "http://ec2.example/a%20b/c:d/%C3%A9", body: "x"},
		"folded headers": {method: "POST", url: "http://ec2.example/", body: "x", headers: map[string]string{"X-Amz-Note": "  a   b "}},
		"empty body":     {method: "POST", url: "http://ec2.example/"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			got, err := asReceived(t, signed(t, test.method, test.url, test.body, test.headers), signedAt)
			if err != nil || got != want {
				t.Errorf("got %+v, %v", got, err)
			}
		})
	}
}

// TestUnsignedBody: only a PUT of the EBS direct APIs with a signed checksum may leave its body
// unsigned.
func TestUnsignedBody(t *testing.T) {
	for name, test := range map[string]struct {
		method, service string
		checksum        bool
		want            error
	}{
		"block":            {"PUT", "ebs", true, nil},
		"without checksum": {"PUT", "ebs", false, sigv4.ErrMismatch},
		"another method":   {"POST", "ebs", true, sigv4.ErrMismatch},
		"another service":  {"PUT", "ec2", true, sigv4.ErrMismatch},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRequest(t, test.method, "http://ebs.example/snapshots/snap-1/blocks/0", "block")
			r.Header.Set("X-Amz-Content-Sha256", "UNSIGNED-PAYLOAD")
			if test.checksum {
				r.Header.Set("X-Amz-Checksum", sumOf("block"))
			}
			if err := v4.NewSigner().SignHTTP(context.Background(), pair, r, "UNSIGNED-PAYLOAD", test.service, "eu-west-3", signedAt); err != nil {
				t.Fatal(err)
			}
			if _, err := asReceived(t, r, signedAt); !errors.Is(err, test.want) {
				t.Errorf("the error is %v, not %v", err, test.want)
			}
		})
	}
}

func TestVerifyAcceptsThePresigned(t *testing.T) {
	r := newRequest(t, "GET", "http://ec2.example/?Action=CopySnapshot&X-Amz-Expires=60&Description=a%20b", "")
	address, _, err := v4.NewSigner().PresignHTTP(context.Background(), pair, r, sumOf(""), "ec2", "eu-west-3", signedAt)
	if err != nil {
		t.Fatal(err)
	}
	for offset, want := range map[time.Duration]error{
		-16 * time.Minute: sigv4.ErrExpired,
		0:                 nil,
		60 * time.Second:  nil,
		61 * time.Second:  sigv4.ErrExpired,
	} {
		_, err := asReceived(t, newRequest(t, "GET", address, ""), signedAt.Add(offset))
		if !errors.Is(err, want) {
			t.Errorf("after %v: got %v, want %v", offset, err, want)
		}
	}
	_, err = asReceived(t, newRequest(t, "GET", address+"&More=1", ""), signedAt)
	if !errors.Is(err, sigv4.ErrMismatch) {
		t.Errorf("with a parameter more: got %v", err)
	}
}

// TestVerifyPresignedWithoutExpires checks that a presigned URL without an expiry is valid for
// as long as a header.
func TestVerifyPresignedWithoutExpires(t *testing.T) {
	r := newRequest(t, "GET", "http://ec2.example/?Action=CopySnapshot", "")
	address, _, err := v4.NewSigner().PresignHTTP(context.Background(), pair, r, sumOf(""), "ec2", "eu-west-3", signedAt)
	if err != nil {
		t.Fatal(err)
	}
	for offset, want := range map[time.Duration]error{sigv4.Skew: nil, sigv4.Skew + time.Second: sigv4.ErrExpired} {
		_, err := asReceived(t, newRequest(t, "GET", address, ""), signedAt.Add(offset))
		if !errors.Is(err, want) {
			t.Errorf("after %v: got %v, want %v", offset, err, want)
		}
	}
}

func TestVerifyRefuses(t *testing.T) {
	header := func(edit func(string) string) func(*http.Request) {
		return func(r *http.Request) { r.Header.Set("Authorization", edit(r.Header.Get("Authorization"))) }
	}
	replace := func(old, with string) func(*http.Request) {
		return header(func(s string) string { return strings.Replace(s, old, with, 1) })
	}
	tests := map[string]struct {
		change func(*http.Request)
		want   error
	}{
		"unsigned":           {func(r *http.Request) { r.Header.Del("Authorization") }, sigv4.ErrMissing},
		"other scheme":       {replace("AWS4-HMAC-SHA256", "AWS3"), sigv4.ErrMalformed},
		"basic":              {header(func(string) string { return "Basic YTpi" }), sigv4.ErrMalformed},
		"no parts":           {header(func(string) string { return "AWS4-HMAC-SHA256" }), sigv4.ErrMalformed},
		"part twice":         {header(func(s string) string { return s + ", Signature=00" }), sigv4.ErrMalformed},
		"short scope":        {replace("/eu-west-3/", "/"), sigv4.ErrMalformed},
		"empty region":       {replace("/eu-west-3/", "//"), sigv4.ErrMalformed},
		"signature not hex":  {replace("Signature=", "Signature=zz"), sigv4.ErrMalformed},
		"host not signed":    {replace("host;", "hosts;"), sigv4.ErrMalformed},
		"no date":            {func(r *http.Request) { r.Header.Del("X-Amz-Date") }, sigv4.ErrMalformed},
		"date of other day":  {replace("/20260304/", "/20260305/"), sigv4.ErrMalformed},
		"unknown key":        {replace("AKIDEXAMPLE", "AKIDOTHER"), sigv4.ErrUnknownKey},
		"other region":       {replace("eu-west-3", "eu-west-2"), sigv4.ErrMismatch},
		"other time":         {func(r *http.Request) { r.Header.Set("X-Amz-Date", "20260304T050608Z") }, sigv4.ErrMismatch},
		"other host":         {func(r *http.Request) { r.URL.Host = "evil.example" }, sigv4.ErrMismatch},
		"other path":         {func(r *http.Request) { r.URL.Path = "/x" }, sigv4.ErrMismatch},
		"other query":        {func(r *http.Request) { r.URL.RawQuery = "a=1" }, sigv4.ErrMismatch},
		"query not parsable": {func(r *http.Request) { r.URL.RawQuery = "a=%zz" }, sigv4.ErrMalformed},
		"other body": {func(r *http.Request) {
			r.Body = io.NopCloser(strings.NewReader("Action=DeleteVolume"))
			r.ContentLength = int64(len("Action=DeleteVolume"))
		}, sigv4.ErrMismatch},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			r := signed(t, "POST", "http://ec2.example/", "Action=DescribeTags", nil)
			test.change(r)
			if _, err := asReceived(t, r, signedAt); !errors.Is(err, test.want) {
				t.Errorf("got %v, want %v", err, test.want)
			}
		})
	}
}

func TestVerifyRefusesOldAndNew(t *testing.T) {
	for offset, want := range map[time.Duration]error{
		-sigv4.Skew - time.Second: sigv4.ErrExpired,
		-sigv4.Skew:               nil,
		sigv4.Skew:                nil,
		sigv4.Skew + time.Second:  sigv4.ErrExpired,
	} {
		_, err := asReceived(t, signed(t, "POST", "http://ec2.example/", "x", nil), signedAt.Add(offset))
		if !errors.Is(err, want) {
			t.Errorf("after %v: got %v, want %v", offset, err, want)
		}
	}
}

func TestVerifyRefusesBadPresigning(t *testing.T) {
	const good = "X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential=AKIDEXAMPLE/20260304/eu-west-3/ec2/aws4_request" +
		"&X-Amz-Date=20260304T050607Z&X-Amz-Expires=60&X-Amz-SignedHeaders=host&X-Amz-Signature="
	sum := strings.Repeat("0", 64)
	for query, want := range map[string]error{
		good + sum:        sigv4.ErrMismatch,
		good + sum[:62]:   sigv4.ErrMalformed,
		good + sum + "00": sigv4.ErrMalformed,
		strings.Replace(good, "Expires=60", "Expires=0", 1) + sum:        sigv4.ErrMalformed,
		strings.Replace(good, "Expires=60", "Expires=604801", 1) + sum:   sigv4.ErrMalformed,
		strings.Replace(good, "Expires=60", "Expires=x", 1) + sum:        sigv4.ErrMalformed,
		strings.Replace(good, "HMAC-SHA256&", "HMAC-SHA1&", 1) + sum:     sigv4.ErrMalformed,
		strings.Replace(good, "Headers=host", "Headers=", 1) + sum:       sigv4.ErrMalformed,
		strings.Replace(good, "Headers=host", "Headers=host;a", 1) + sum: sigv4.ErrMalformed,
	} {
		_, err := asReceived(t, newRequest(t, "GET", "http://ec2.example/?"+query, ""), signedAt)
		if !errors.Is(err, want) {
			t.Errorf("%s: got %v, want %v", query, err, want)
		}
	}
}

func FuzzVerify(f *testing.F) {
	f.Add("AWS4-HMAC-SHA256 Credential=A/20260304/r/s/aws4_request, SignedHeaders=host, Signature=00", "20260304T050607Z", "a=b")
	f.Add("AWS4-HMAC-SHA256 Credential=A/20260304/r/s/aws4_request,SignedHeaders=content-length;host,Signature="+strings.Repeat("ab", 32), "20260304T050607Z", "")
	f.Add("", "", "X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Expires=1")
	f.Fuzz(func(t *testing.T, authorization, date, query string) {
		r := httptest.NewRequest(http.MethodPost, "http://ec2.example/", nil)
		r.URL.RawQuery = query
		r.Header.Set("Authorization", authorization)
		r.Header.Set("X-Amz-Date", date)
		credential, err := sigv4.Verify(r, nil, signedAt, func(string) (string, bool) { return "unguessable", true })
		if err == nil {
			t.Errorf("accepted %+v without the secret", credential)
		}
	})
}
