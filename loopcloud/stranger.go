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

// strangers refuses requests that a web page may have made. A page cannot read answers of
// another origin, but a name that its author controls can be made to lead to this machine
// (DNS rebinding): the browser then takes loopcloud for the page's own origin. Such a
// request has that name in its Host header. An IP address cannot be rebound.
type strangers struct {
	// allowed are the names that the user has for this machine.
	allowed []string
}

// refusal returns why a request is refused, or "".
func (s strangers) refusal(r *http.Request) string {
	host := (&url.URL{Host: r.Host}).Hostname()
	if !s.knows(host) {
		return fmt.Sprintf("the Host header is %q, which is neither an IP address nor localhost: a web page could have made this request."+
			" If it is a name of this machine, start loopcloud with --allow-host NAME", r.Host)
	}
	if origin := r.Header.Get("Origin"); r.Header["Origin"] != nil && !strings.EqualFold(origin, "http://"+r.Host) {
		return fmt.Sprintf("the Origin header is %q: loopcloud does not answer other sites' web pages", origin)
	}
	if site := r.Header.Get("Sec-Fetch-Site"); r.Header["Sec-Fetch-Site"] != nil && site != "none" && site != "same-origin" {
		return fmt.Sprintf("the Sec-Fetch-Site header is %q: loopcloud does not answer other sites' web pages", site)
	}
	return ""
}

// knows reports whether a host's name cannot be a stranger's. Names below localhost never
// leave the machine (RFC 6761).
func (s strangers) knows(host string) bool {
	host = strings.ToLower(host)
	address, _, _ := strings.Cut(host, "%") // a zone
	return net.ParseIP(address) != nil || host == "localhost" || strings.HasSuffix(host, ".localhost") ||
		slices.ContainsFunc(s.allowed, func(name string) bool { return strings.EqualFold(name, host) })
}

// forbid refuses a request with a plain text.
func forbid(w http.ResponseWriter, why string) { http.Error(w, why, http.StatusForbidden) }

// before puts the check before a handler.
func (s strangers) before(next http.Handler, refuse func(w http.ResponseWriter, why string)) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if why := s.refusal(r); why != "" {
			refuse(w, why)
			return
		}
		next.ServeHTTP(w, r)
	})
}
