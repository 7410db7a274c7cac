package amazon

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/packer-chroot/packer-plugin-chroot/bake/cloudtest"
	"github.com/packer-chroot/packer-plugin-chroot/builder/buildertest"
)

// TestEndpointOfBlocks: the EBS direct APIs are at custom_endpoint_ebs, or at the endpoint of the
// environment, and not at that of EC2. Their certificate may be any with insecure_skip_tls_verify.
func TestEndpointOfBlocks(t *testing.T) {
	w := newDirectCloud(t)
	root := rootOf(w.source(account, "", sourceBlocks))
	paths := httptest.NewServer(http.StripPrefix("/blocks-in-"+account.Region, w.Server))
	tls := httptest.NewTLSServer(w.Server)
	t.Cleanup(func() { paths.Close(); tls.Close() })
	wrong := "http://127.0.0.1:1"
	for name, test := range map[string]struct {
		env    map[string]string
		change func(*AccessConfig)
		want   []string // of the error; nil is none
	}{
		"an option":             {nil, func(a *AccessConfig) { a.CustomEndpointEBS = w.url }, nil},
		"an option wins":        {map[string]string{"AWS_ENDPOINT_URL_EBS": wrong}, func(a *AccessConfig) { a.CustomEndpointEBS = w.url }, nil},
		"the environment's own": {map[string]string{"AWS_ENDPOINT_URL_EBS": w.url}, nil, nil},
		"the environment's":     {map[string]string{"AWS_ENDPOINT_URL": w.url}, nil, nil},
		"not EC2's":             {map[string]string{"AWS_ENDPOINT_URL": w.url}, func(a *AccessConfig) { a.CustomEndpointEC2 = wrong }, nil},
		"with FIPS": {nil, func(a *AccessConfig) {
			a.CustomEndpointEBS, a.UseFIPSEndpoint, a.UseDualStackEndpoint = w.url, true, true
		}, nil},
		"wrong":                   {nil, func(a *AccessConfig) { a.CustomEndpointEBS = wrong }, []string{wrong, "check custom_endpoint_ebs"}},
		"wrong, of EC2 and EBS":   {map[string]string{"AWS_ENDPOINT_URL_EBS": wrong}, func(a *AccessConfig) { a.CustomEndpointEC2 = w.url }, []string{wrong, "AWS_ENDPOINT_URL"}},
		"an unknown certificate":  {nil, func(a *AccessConfig) { a.CustomEndpointEBS = tls.URL }, []string{tls.URL, "insecure_skip_tls_verify", "custom_endpoint_ebs"}},
		"any certificate":         {nil, func(a *AccessConfig) { a.CustomEndpointEBS, a.InsecureSkipTLSVerify = tls.URL, true }, nil},
		"with the region's name":  {nil, func(a *AccessConfig) { a.CustomEndpointEBS = paths.URL + "/blocks-in-{region}" }, []string{"InvalidSignatureException"}},
		"with no URL at its end":  {nil, func(a *AccessConfig) { a.CustomEndpointEBS = "http://" }, []string{"custom_endpoint_ebs"}},
		"without TLS, by its URL": {nil, func(a *AccessConfig) { a.CustomEndpointEBS = strings.Replace(w.url, "http:", "https:", 1) }, []string{"does not speak TLS", "custom_endpoint_ebs"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Setenv("AWS_ENDPOINT_URL", "")
			for key, value := range test.env {
				t.Setenv(key, value)
			}
			a := access("")
			if test.change != nil {
				test.change(&a)
			}
			c, err := Dial(t.Context(), a, 0)
			if err == nil {
				c.policy.Clock = new(cloudtest.Clock)
				err = c.blockClient().Source(root).Probe(t.Context())
			}
			if test.want == nil && err != nil {
				t.Errorf("%v", err)
			}
			if test.want != nil {
				says(t, err, test.want...)
			}
		})
	}
}

// TestFaultsOfACertificateOfBlocks: the error names the fault and the options.
func TestFaultsOfACertificateOfBlocks(t *testing.T) {
	for _, fault := range buildertest.CertificateFaults() {
		t.Run(fault.Name, func(t *testing.T) {
			alone(t)
			a := access("")
			a.CustomEndpointEBS = fault.Serve(t, http.NotFoundHandler())
			err := dial(t, a).blockClient().Source("snap-1").Probe(t.Context())
			says(t, err, append(fault.Words, a.CustomEndpointEBS, "insecure_skip_tls_verify", "custom_endpoint_ebs")...)
		})
	}
}

// TestAdviceOnRefusedBlocks: the error of a refused call names the remedy.
func TestAdviceOnRefusedBlocks(t *testing.T) {
	w := newDirectCloud(t)
	root := rootOf(w.source(account, "", sourceBlocks))
	for rule, want := range map[string][]string{
		`"status":403,"code":"AccessDeniedException","message":"not authorized"`:            {"the policies of access key AKIATEST do not allow ebs:ListSnapshotBlocks"},
		`"status":403,"code":"AccessDeniedException/UNAUTHORIZED_ACCOUNT","message":"no"`:   {"belongs to another account"},
		`"status":403,"code":"AccessDeniedException/DEPENDENCY_ACCESS_DENIED","message":""`: {"KMS key", "ebs:ListSnapshotBlocks"},
		`"status":402,"code":"ServiceQuotaExceededException","message":"no"`:                {"Service Quotas"},
		`"error":"throttled"`: {"AWS throttles ebs:ListSnapshotBlocks", "throttled since"},
		`"status":400,"code":"ConcurrentLimitExceededException","message":"no"`: {"too many snapshots", "throttled since"},
		`"status":403,"code":"UnrecognizedClientException","message":"no"`:      {"check access_key"},
		`"status":403,"code":"ExpiredTokenException","message":"no"`:            {"has expired"},
	} {
		w.fault(`{"action":"ListSnapshotBlocks",` + rule + `}`)
		err := w.blocksOf(account).Source(root).Probe(t.Context())
		says(t, err, append(want, root)...)
	}
}
