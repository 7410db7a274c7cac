//go:build linux

package loopcloud

import (
	"fmt"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
)

// originPolicy refuses requests that a web page may have made. A page cannot read responses of
// another origin, but its author can make a host name resolve to this machine (DNS rebinding):
// the browser then takes loopcloud for the page's own origin. Such a request has that name in its
// Host header. An IP address cannot be rebound.
type originPolicy struct {
	// allowed are additional host names of this machine.
	allowed []string
}

// refusal returns the reason to refuse a request, "" if it is accepted.
func (s originPolicy) refusal(r *http.Request) string {
	host := (&url.URL{Host: r.Host}).Hostname()
	if !s.isTrusted(host) {
		return fmt.Sprintf("the Host header is %q, which is neither an IP address nor localhost: a web page could have made this request."+
			" If it is a name of this machine, start loopcloud with --allow-host NAME", r.Host)
	}
	if origin := r.Header.Get("Origin"); r.Header["Origin"] != nil && !strings.EqualFold(origin, "http://"+r.Host) {
		return fmt.Sprintf("the Origin header is %q: loopcloud refuses web pages of other sites", origin)
	}
	if site := r.Header.Get("Sec-Fetch-Site"); r.Header["Sec-Fetch-Site"] != nil && site != "none" && site != "same-origin" {
		return fmt.Sprintf("the Sec-Fetch-Site header is %q: loopcloud refuses web pages of other sites", site)
	}
	return ""
}

// isTrusted reports whether a host name cannot be rebound. Names below localhost never leave the
// machine (RFC 6761).
func (s originPolicy) isTrusted(host string) bool {
	host = strings.ToLower(host)
	address, _, _ := strings.Cut(host, "%") // an IPv6 zone
	return net.ParseIP(address) != nil || host == "localhost" || strings.HasSuffix(host, ".localhost") ||
		slices.ContainsFunc(s.allowed, func(name string) bool { return strings.EqualFold(name, host) })
}

// forbid responds with a refusal as plain text.
func forbid(w http.ResponseWriter, why string) { http.Error(w, why, http.StatusForbidden) }

// wrap returns a handler that checks requests before next serves them.
func (s originPolicy) wrap(next http.Handler, refuse func(w http.ResponseWriter, why string)) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if why := s.refusal(r); why != "" {
			refuse(w, why)
			return
		}
		next.ServeHTTP(w, r)
	})
}
