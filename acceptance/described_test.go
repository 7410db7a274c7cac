package acceptance

import (
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"

	"github.com/packer-chroot/packer-plugin-chroot/loopcloud/oapi/apitest"
)

// described is the address of the box's cloud behind a proxy that holds every call
// of the Outscale API, and every answer, against Outscale's description of it. A
// call that the cloud does not answer is not answered here either.
func (b *box) described() string {
	b.t.Helper()
	description, err := apitest.Load()
	if err != nil {
		b.t.Fatal(err)
	}
	proxy := &httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) {
			to, err := url.Parse(b.endpoint)
			if err != nil {
				b.t.Errorf("loopcloud's address: %v", err)
				return
			}
			r.SetURL(to)
			r.Out.Host = r.In.Host // it is signed
		},
		ErrorHandler: func(http.ResponseWriter, *http.Request, error) { panic(http.ErrAbortHandler) },
	}
	server := httptest.NewServer(description.Checked(b.t, proxy))
	b.t.Cleanup(server.Close)
	return server.URL
}
