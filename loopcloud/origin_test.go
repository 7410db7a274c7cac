//go:build linux

package loopcloud_test

import (
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/packer-chroot/packer-plugin-chroot/loopcloud"
	"github.com/packer-chroot/packer-plugin-chroot/loopcloud/state"
	"github.com/packer-chroot/packer-plugin-chroot/testdir"
)

// unsigned are requests that are not signed, and the responses to a program on this machine.
var unsigned = map[string]struct {
	method, target string
	status         int
}{
	"metadata":     {"GET", "/latest/meta-data/instance-id", http.StatusOK},
	"role's keys":  {"GET", "/latest/meta-data/iam/security-credentials/", http.StatusOK},
	"IMDSv2 token": {"PUT", "/latest/api/token", http.StatusOK},
	"control":      {"GET", "/_loopcloud/calls", http.StatusOK},
	"health":       {"GET", "/_loopcloud/health", http.StatusOK},
}

// pages are the headers that a browser sends for a page of another site.
var pages = map[string]func(*http.Request){
	"a name made to lead here":       func(r *http.Request) { r.Host = "page.example:4600" },
	"and the origin of that name":    func(r *http.Request) { r.Host = "page.example"; r.Header.Set("Origin", "http://page.example") },
	"a name like localhost":          func(r *http.Request) { r.Host = "localhost.page.example" },
	"a name like an address":         func(r *http.Request) { r.Host = "127.0.0.1.page.example:4600" },
	"no host":                        func(r *http.Request) { r.Host = "" },
	"another site":                   func(r *http.Request) { r.Header.Set("Origin", "http://page.example") },
	"another port of this machine":   func(r *http.Request) { r.Header.Set("Origin", "http://127.0.0.1:3000") },
	"https":                          func(r *http.Request) { r.Header.Set("Origin", "https://127.0.0.1:4600") },
	"a sandboxed frame":              func(r *http.Request) { r.Header.Set("Origin", "null") },
	"an empty origin":                func(r *http.Request) { r.Header.Set("Origin", "") },
	"an image's tag":                 func(r *http.Request) { r.Header.Set("Sec-Fetch-Site", "cross-site") },
	"an image's tag on this machine": func(r *http.Request) { r.Header.Set("Sec-Fetch-Site", "same-site") },
}

// answerTo returns the response to a changed request of a program on this machine, with the
// control token.
func answerTo(s *loopcloud.Server, method, target string, change func(*http.Request)) *httptest.ResponseRecorder {
	r := httptest.NewRequest(method, target, http.NoBody)
	r.RemoteAddr, r.Host = "127.0.0.1:1234", "127.0.0.1:4600"
	r.Header.Set("X-Aws-Ec2-Metadata-Token-Ttl-Seconds", "60")
	if strings.HasPrefix(target, "/_loopcloud/") {
		authorize(r, s)
	}
	change(r)
	w := httptest.NewRecorder()
	s.ServeHTTP(w, r)
	return w
}

func TestCrossSiteRequests(t *testing.T) {
	s := newServer(t, loopcloud.Options{})
	for name, u := range unsigned {
		t.Run(name, func(t *testing.T) {
			if w := answerTo(s, u.method, u.target, func(*http.Request) {}); w.Code != u.status {
				t.Fatalf("a program is answered with %d: %s", w.Code, w.Body)
			}
			for page, change := range pages {
				w := answerTo(s, u.method, u.target, change)
				if w.Code != http.StatusForbidden || !strings.HasPrefix(w.Header().Get("Content-Type"), "text/plain") || !strings.Contains(w.Body.String(), "header is") {
					t.Errorf("%s: it is answered with %d (%s): %s", page, w.Code, w.Header().Get("Content-Type"), w.Body)
				}
			}
		})
	}
}

// TestAllowedHostNames tests host names that a page of another site cannot use.
func TestAllowedHostNames(t *testing.T) {
	s := newServer(t, loopcloud.Options{AllowedHosts: []string{"build-host.example.com"}})
	for name, u := range unsigned {
		for _, host := range []string{
			"localhost:4600", "LOCALHOST", "127.0.0.1", "127.1.2.3:80", "[::1]:4600", "[fe80::1%25lo]:4600", "169.254.169.254",
			"[fd00:ec2::254]", "10.0.2.2:4600", "eu-west-2.localhost:4600", "build-host.example.com", "Build-Host.example.com:4600",
		} {
			for _, origin := range []string{"", "http://" + host} {
				w := answerTo(s, u.method, u.target, func(r *http.Request) {
					r.Host = host
					if origin != "" {
						r.Header.Set("Origin", origin)
						r.Header.Set("Sec-Fetch-Site", "same-origin")
					}
				})
				if w.Code != u.status {
					t.Errorf("%s of %s with the origin %q: it is answered with %d: %s", name, host, origin, w.Code, w.Body)
				}
			}
		}
	}
}

// TestPublicKeys checks that a signature with a key from the documentation does not
// authenticate the client.
func TestPublicKeys(t *testing.T) {
	for _, public := range []bool{false, true} {
		s := newServer(t, loopcloud.Options{PublicKeys: public})
		for target, refused := range map[string]string{
			"/?Action=DescribeRegions&Version=2016-11-15":   "<Message>the Host header",
			"/?Action=GetCallerIdentity&Version=2011-06-15": "<Message>the Host header",
			"/api/v1/ReadVms": `"Details":"the Host header`,
		} {
			if w := answerTo(s, "POST", target, pages["a name made to lead here"]); strings.Contains(w.Body.String(), refused) != public {
				t.Errorf("public keys %t: %s is answered with %d %s", public, target, w.Code, w.Body)
			}
			if w := answerTo(s, "POST", target, func(*http.Request) {}); strings.Contains(w.Body.String(), refused) {
				t.Errorf("a program is refused: %s", w.Body)
			}
		}
	}
}

// TestFurtherMetadata tests the metadata service of a second host, which has its own port.
func TestFurtherMetadata(t *testing.T) {
	s := newServer(t, loopcloud.Options{Hosts: 2})
	for host, want := range map[string]int{"127.0.0.1:4601": http.StatusOK, "page.example:4601": http.StatusForbidden} {
		r := httptest.NewRequest(http.MethodGet, "/latest/meta-data/instance-id", http.NoBody)
		r.Host = host
		w := httptest.NewRecorder()
		s.Metadata(1).ServeHTTP(w, r)
		if w.Code != want {
			t.Errorf("%s is answered with %d: %s", host, w.Code, w.Body)
		}
	}
}

func TestControlNeedsToken(t *testing.T) {
	s := newServer(t, loopcloud.Options{})
	token, _ := s.Token()
	for given, want := range map[string]int{
		"": http.StatusUnauthorized, "Bearer": http.StatusUnauthorized, token: http.StatusUnauthorized,
		"Basic " + token: http.StatusUnauthorized, "Bearer " + token[:63]: http.StatusUnauthorized,
		"Bearer " + token + "0": http.StatusUnauthorized, "Bearer " + strings.Repeat("0", 64): http.StatusUnauthorized,
		"Bearer " + token: http.StatusOK, "bearer " + token: http.StatusOK,
	} {
		w := answerTo(s, "GET", "/_loopcloud/images", func(r *http.Request) { r.Header.Set("Authorization", given) })
		if w.Code != want {
			t.Errorf("%q is answered with %d: %s", given, w.Code, w.Body)
		}
		if strings.Contains(w.Body.String(), token) {
			t.Errorf("the answer to %q holds the token: %s", given, w.Body)
		}
	}
	for _, request := range []string{
		"GET calls", "DELETE calls", "GET faults", "POST faults", "DELETE faults", "GET held", "DELETE held", "DELETE held/1",
		"GET clock", "POST clock", "DELETE clock", "GET images", "POST images", "GET images/ami-1/disk", "GET elsewhere",
	} {
		method, path, _ := strings.Cut(request, " ")
		if w := answerTo(s, method, "/_loopcloud/"+path, func(r *http.Request) { r.Header.Del("Authorization") }); w.Code != http.StatusUnauthorized {
			t.Errorf("%s without a token is answered with %d: %s", request, w.Code, w.Body)
		}
	}
	if w := answerTo(s, "GET", "/_loopcloud/health", func(r *http.Request) { r.Header.Del("Authorization") }); w.Code != http.StatusOK {
		t.Errorf("the health is answered with %d", w.Code)
	}
	client := httptest.NewServer(s)
	t.Cleanup(client.Close)
	if _, err := (loopcloud.Client{Endpoint: client.URL}).Images(t.Context()); err == nil || !strings.Contains(err.Error(), "401") {
		t.Errorf("a client without a token: %v", err)
	}
}

func TestControlIsLocal(t *testing.T) {
	s := newServer(t, loopcloud.Options{})
	for _, peer := range []string{"192.0.2.7:1234", "", "localhost:1"} {
		if w := answerTo(s, "GET", "/_loopcloud/calls", func(r *http.Request) { r.RemoteAddr = peer }); w.Code != http.StatusForbidden {
			t.Errorf("the peer %q is answered with %d", peer, w.Code)
		}
	}
}

// FuzzHost searches for an accepted host that another site could own.
func FuzzHost(f *testing.F) {
	for _, host := range []string{"localhost", "127.0.0.1:4600", "[::1]:4600", "page.example", "127.0.0.1.page.example", "[::1%25x.example]", "localhost@page.example", ""} {
		f.Add(host)
	}
	s, err := loopcloud.New(loopcloud.Options{Dir: testdir.New(f), Keys: []state.Key{key}})
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() { s.Close() })
	f.Fuzz(func(t *testing.T, host string) {
		w := answerTo(s, "GET", "/_loopcloud/health", func(r *http.Request) { r.Host = host })
		if w.Code != http.StatusOK {
			return
		}
		name := strings.ToLower(host)
		if h, _, err := net.SplitHostPort(name); err == nil {
			name = h
		}
		name, _, _ = strings.Cut(strings.Trim(name, "[]"), "%")
		if net.ParseIP(name) == nil && name != "localhost" && !strings.HasSuffix(name, ".localhost") {
			t.Errorf("%q is answered", host)
		}
	})
}
