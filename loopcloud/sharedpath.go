//go:build linux

package loopcloud

import (
	"net/http"

	"github.com/packer-chroot/packer-plugin-chroot/loopcloud/kms"
	"github.com/packer-chroot/packer-plugin-chroot/loopcloud/sts"
	"github.com/packer-chroot/packer-plugin-chroot/loopcloud/wire"
)

// sharedPath serves the APIs that share the path /. Requests to KMS have a header of their own;
// those to EC2 and STS name the version of the API.
type sharedPath struct{ ec2, sts, kms *dialectHandler }

// ServeHTTP responds to a request.
func (p sharedPath) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if kms.Asked(r) {
		p.kms.ServeHTTP(w, r)
		return
	}
	in, err := wire.Read(w, r, maxBody)
	to := p.ec2
	if versionOf(in) == sts.Version {
		to = p.sts
	}
	if !to.refuseOrigin(w, r) {
		to.serve(w, in, err) //nolint:contextcheck // the request has its context
	}
}

// versionOf returns the API version that a request names in its URL or body, "" if it names
// none.
func versionOf(r *wire.Request) string {
	if version := r.Query.Get("Version"); version != "" {
		return version
	}
	form, err := r.BodyForm()
	if err != nil {
		return ""
	}
	return form.Get("Version")
}
