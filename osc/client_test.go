package osc

import (
	"crypto/tls"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/packer-chroot/packer-plugin-chroot/loopcloud/oapi/apitest"
	"github.com/packer-chroot/packer-plugin-chroot/loopcloud/state"
	"github.com/packer-chroot/packer-plugin-chroot/testdir"
)

// environment sets all the variables that Access reads.
func environment(t *testing.T, set map[string]string) {
	t.Helper()
	for _, name := range []string{
		"OSC_ACCESS_KEY", "OSC_SECRET_KEY", "OSC_REGION", "OSC_ENDPOINT_API", "OSC_METADATA_ENDPOINT", "OSC_PROFILE", "OSC_CONFIG_FILE",
		"OSC_X509_CLIENT_CERT", "OSC_X509_CLIENT_KEY", "OSC_X509_CLIENT_CERT_B64", "OSC_X509_CLIENT_KEY_B64", "OSC_TLS_SKIP_VERIFY",
		"OUTSCALE_ACCESSKEYID", "OUTSCALE_SECRETKEYID", "OUTSCALE_REGION", "OUTSCALE_OAPI_URL", "OUTSCALE_X509CERT", "OUTSCALE_X509KEY",
	} {
		t.Setenv(name, set[name])
	}
	if _, err := apitest.Load(); err != nil { // calls the go command, which needs the real home
		t.Fatal(err)
	}
	t.Setenv("HOME", testdir.New(t))
}

func TestResolve(t *testing.T) {
	keys := Access{AccessKey: "AK", SecretKey: "SK", Region: "eu-west-2"}
	with := func(change func(*Access)) Access {
		a := keys
		change(&a)
		return a
	}
	tests := map[string]struct {
		in   Access
		env  map[string]string
		want Access
		err  string // part of the error; empty if there is none
	}{
		"default endpoint": {
			in: keys, want: keys,
		},
		"all from the environment": {
			env: map[string]string{
				"OSC_ACCESS_KEY": "EAK", "OSC_SECRET_KEY": "ESK", "OSC_REGION": "us-east-2",
				"OSC_ENDPOINT_API": "http://127.0.0.1:1/api/v1", "OSC_METADATA_ENDPOINT": "http://127.0.0.1:1",
			},
			want: Access{AccessKey: "EAK", SecretKey: "ESK", Region: "us-east-2",
				Endpoint: "http://127.0.0.1:1/api/v1", MetadataEndpoint: "http://127.0.0.1:1"},
		},
		"options before the environment": {
			in:   keys,
			env:  map[string]string{"OSC_ACCESS_KEY": "EAK", "OSC_SECRET_KEY": "ESK", "OSC_REGION": "us-east-2"},
			want: keys,
		},
		"bare host": {
			in:   with(func(a *Access) { a.Endpoint = "oapi.example.com" }),
			want: with(func(a *Access) { a.Endpoint = "https://oapi.example.com/api/v1" }),
		},
		"bare host, port and path": {
			in:   with(func(a *Access) { a.Endpoint = "oapi.example.com:8443/api/latest/" }),
			want: with(func(a *Access) { a.Endpoint = "https://oapi.example.com:8443/api/latest" }),
		},
		"region of the endpoint": {
			in: with(func(a *Access) { a.Region, a.Endpoint = "", "api.cloudgouv-eu-west-1.outscale.com" }),
			want: with(func(a *Access) {
				a.Region, a.Endpoint = "cloudgouv-eu-west-1", "https://api.cloudgouv-eu-west-1.outscale.com/api/v1"
			}),
		},
		"no keys":           {in: with(func(a *Access) { a.AccessKey, a.SecretKey = "", "" }), err: "access_key and secret_key"},
		"no access key":     {in: with(func(a *Access) { a.AccessKey = "" }), err: "access_key"},
		"no secret key":     {in: with(func(a *Access) { a.SecretKey = "" }), err: "secret_key"},
		"no region":         {in: with(func(a *Access) { a.Region = "" }), want: with(func(a *Access) { a.Region = "" })},
		"region not a name": {in: with(func(a *Access) { a.Region = "evil.example.com/" }), err: `"evil.example.com/"`},
		"endpoint scheme":   {in: with(func(a *Access) { a.Endpoint = "ftp://x" }), err: `custom_endpoint_oapi (or OSC_ENDPOINT_API) is "ftp://x"`},
		"endpoint no host":  {in: with(func(a *Access) { a.Endpoint = "https:///api" }), err: "no host"},
		"endpoint query":    {in: with(func(a *Access) { a.Endpoint = "https://x/?a=b" }), err: "only a scheme"},
		"metadata":          {in: with(func(a *Access) { a.MetadataEndpoint = "http://" }), err: "OSC_METADATA_ENDPOINT"},
		"all that is wrong": {in: Access{AccessKey: "AK", Region: "!"}, err: "OSC_REGION"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			environment(t, test.env)
			got, err := test.in.resolve()
			got.regionFrom = ""
			switch {
			case test.err == "" && (err != nil || got != test.want):
				t.Errorf("got %+v, %v\nwant %+v", got, err, test.want)
			case test.err != "" && (err == nil || !strings.Contains(err.Error(), test.err)):
				t.Errorf("the error is %v, not about %q", err, test.err)
			}
		})
	}
}

// FuzzParseEndpoint checks that an accepted endpoint is a URL that is accepted again with the
// same meaning.
func FuzzParseEndpoint(f *testing.F) {
	for _, seed := range []string{"", "host", "host:1/p/", "http://h", "https://h/api/v1", "://", "https://[::1]:1", "a b", "https://u@h"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, s string) {
		u, err := parseEndpoint(s, "/api/v1")
		if err != nil {
			return
		}
		again, err := parseEndpoint(u.String(), "/elsewhere")
		if err != nil || again.String() != u.String() {
			t.Errorf("%q is %q, then %v, %v", s, u, again, err)
		}
	})
}

// TestDialFailures checks that errors of the first call are reported in the user's terms.
func TestDialFailures(t *testing.T) {
	environment(t, nil)
	o := newOutscale(t, state.Instant())
	selfSigned := httptest.NewUnstartedServer(http.NotFoundHandler())
	selfSigned.Config.ErrorLog = log.New(io.Discard, "", 0)
	selfSigned.StartTLS()
	t.Cleanup(selfSigned.Close)
	page := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = w.Write([]byte("<html>\n<p>welcome</html>"))
	}))
	t.Cleanup(page.Close)
	tests := map[string]struct {
		access func(*Access)
		want   []string
	}{
		"unknown key":  {func(a *Access) { a.AccessKey = "AKNOBODY" }, []string{"refuses the access key AKNOBODY", "OSC_SECRET_KEY", "4120"}},
		"wrong secret": {func(a *Access) { a.SecretKey = "wrong" }, []string{"refuses the access key AKME", "check access_key"}},
		"nobody there": {func(a *Access) { a.Endpoint = "http://" + closedPort(t) }, []string{"cannot reach the Outscale API at http://127.0.0.1", "custom_endpoint_oapi", "refused"}},
		"https for http": {
			func(a *Access) { a.Endpoint = strings.Replace(o.server.URL, "http:", "https:", 1) }, []string{"cannot reach", "TLS handshake"}},
		"self-signed":    {func(a *Access) { a.Endpoint = selfSigned.URL }, []string{"cannot reach", "certificate"}},
		"something else": {func(a *Access) { a.Endpoint = page.URL }, []string{"not of the Outscale API: <html> <p>welcome</html>"}},
		"another path":   {func(a *Access) { a.Endpoint += "/elsewhere" }, []string{"HTTP 404"}},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			access := o.access()
			test.access(&access)
			_, err := Dial(t.Context(), access)
			if err == nil {
				t.Fatal("it can be reached")
			}
			for _, part := range test.want {
				if !strings.Contains(err.Error(), part) {
					t.Errorf("the error is %q, not about %q", err, part)
				}
			}
		})
	}
}

func TestLockedAccount(t *testing.T) {
	environment(t, nil)
	o := newOutscale(t, state.Instant())
	access := o.access()
	access.SecretKey = "wrong"
	for range 4 {
		if _, err := Dial(t.Context(), access); err == nil {
			t.Fatal("a wrong secret is accepted")
		}
	}
	_, err := Dial(t.Context(), o.access())
	if err == nil || !strings.Contains(err.Error(), "locked") || !strings.Contains(err.Error(), "wait a minute") {
		t.Errorf("the error is %v", err)
	}
}

// closedPort is an address without a listener.
func closedPort(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// TestTLS checks that certificates are verified unless the user turns that off, and that TLS
// 1.2 is enough.
func TestTLS(t *testing.T) {
	environment(t, nil)
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		_, _ = w.Write([]byte(account.body))
	}))
	server.TLS = &tls.Config{MaxVersion: tls.VersionTLS12}
	server.StartTLS()
	t.Cleanup(server.Close)
	access := Access{AccessKey: "AK", SecretKey: "SK", Region: home, Endpoint: server.URL, InsecureSkipTLSVerify: true}
	c, err := Dial(t.Context(), access)
	if err != nil || c.Account() != me || c.Region() != home {
		t.Errorf("%+v, %v", c, err)
	}
}

func TestDialWithoutAccount(t *testing.T) {
	environment(t, nil)
	for _, body := range []string{`{}`, `{"Accounts":[]}`, `{"Accounts":[{}]}`} {
		s := newFake(t, map[string][]reply{"ReadAccounts": {{200, body}}})
		if _, err := Dial(t.Context(), s.access()); err == nil || !strings.Contains(err.Error(), "which account") {
			t.Errorf("%s: %v", body, err)
		}
	}
}
