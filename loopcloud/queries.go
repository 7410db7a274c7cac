//go:build linux

package loopcloud

import (
	"bytes"
	"io"
	"net/http"
	"net/url"

	"github.com/packer-chroot/packer-plugin-chroot/loopcloud/kms"
	"github.com/packer-chroot/packer-plugin-chroot/loopcloud/sts"
)

// queries tells apart the services that are asked by POST /: KMS by its header, the other
// two by the version of the API, which every request to them names.
func queries(ec2, other, keys http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if kms.Asked(r) {
			keys.ServeHTTP(w, r)
			return
		}
		read, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
		// What could be read is read again; then the error comes again, too.
		r.Body = io.NopCloser(io.MultiReader(bytes.NewReader(read), failing{err}))
		if versionOf(r, read) == sts.Version {
			other.ServeHTTP(w, r)
			return
		}
		ec2.ServeHTTP(w, r)
	})
}

// versionOf is the version that a query names, in its address or its body.
func versionOf(r *http.Request, body []byte) string {
	if version := r.URL.Query().Get("Version"); version != "" {
		return version
	}
	form, err := url.ParseQuery(string(body))
	if err != nil {
		return ""
	}
	return form.Get("Version")
}

// failing is a reader at whose end is an error; nil for io.EOF.
type failing struct{ err error }

func (f failing) Read([]byte) (int, error) {
	if f.err != nil {
		return 0, f.err
	}
	return 0, io.EOF
}
