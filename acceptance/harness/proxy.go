package harness

import (
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"

	"github.com/packer-chroot/packer-plugin-chroot/loopcloud/oapi/apitest"
	query "github.com/packer-chroot/packer-plugin-chroot/loopcloud/query/apitest"
)

// checking selects the calls that are compared with the models of the APIs.
type checking int

const (
	// OnlyRequests checks no responses. It is for tests that corrupt them.
	OnlyRequests checking = iota
	// Everything checks requests and responses.
	Everything
)

// Described returns the address of a proxy before the box's cloud. It checks every parameter of all calls of builds
// against the models of the EC2, STS and Outscale APIs. If the cloud does not answer, neither does the proxy.
func (b *Box) Described(what checking) string {
	b.Helper()
	outscale, err := apitest.Load()
	b.Must(err)
	amazon, err := query.Load()
	b.Must(err)
	var next http.Handler = &httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) {
			to, err := url.Parse(b.Endpoint)
			if err != nil {
				b.Errorf("loopcloud's address: %v", err)
				return
			}
			r.SetURL(to)
			r.Out.Host = r.In.Host // it is signed
		},
		ErrorHandler: func(http.ResponseWriter, *http.Request, error) { panic(http.ErrAbortHandler) },
	}
	if what == Everything {
		next = outscale.Answers(b.TB, amazon.Answers(b.TB, next))
	}
	server := httptest.NewServer(b.Reservations.watch(outscale.Requests(b.TB, amazon.Requests(b.TB, next))))
	b.Cleanup(server.Close)
	return server.URL
}
