package acceptance

import (
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"

	query "github.com/packer-chroot/packer-plugin-chroot/loopcloud/query/apitest"

	"github.com/packer-chroot/packer-plugin-chroot/loopcloud/oapi/apitest"
)

// checking says what of the calls is held against the models of the APIs.
type checking int

const (
	// onlyRequests checks no responses. It is for tests that corrupt them.
	onlyRequests checking = iota
	everything
)

// described returns the address of a proxy before the box's cloud. It holds the calls of all
// builds, parameter by parameter, against the models of the EC2, STS and Outscale APIs. A call
// that the cloud does not answer is not answered here either.
func (b *box) described(what checking) string {
	b.t.Helper()
	outscale, err := apitest.Load()
	b.must(err)
	amazon, err := query.Load()
	b.must(err)
	var next http.Handler = &httputil.ReverseProxy{
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
	if what == everything {
		next = outscale.Answers(b.t, amazon.Answers(b.t, next))
	}
	server := httptest.NewServer(outscale.Requests(b.t, amazon.Requests(b.t, next)))
	b.t.Cleanup(server.Close)
	return server.URL
}

// through sends the calls of the box's builds to an address.
func (b *box) through(address string) {
	b.env = append(b.env, "AWS_ENDPOINT_URL="+address, "OSC_ENDPOINT_API="+address+"/api/v1")
}
