package osc

import (
	"reflect"
	"testing"
	"time"

	"github.com/packer-chroot/packer-plugin-chroot/builder/buildertest"
)

func TestAllOfAccessReachesTheClient(t *testing.T) {
	t.Setenv("PACKER_CHROOT_PATIENCE", "5m")
	var c Config
	buildertest.Prepared(t, &c, with(t, map[string]any{
		"profile": "builds", "region": "eu-west-2", "custom_endpoint_oapi": "https://api.example.com/api/v1",
		"custom_endpoint_metadata": "http://127.0.0.1:1338", "vm_id": "i-12345678",
		"x509_cert_path": "/cert.pem", "x509_key_path": "/key.pem", "insecure_skip_tls_verify": true,
	}))
	want := Access{
		AccessKey: "YOUR KEY HERE", SecretKey: "YOUR SECRET KEY HERE", Profile: "builds", Region: "eu-west-2",
		Endpoint: "https://api.example.com/api/v1", MetadataEndpoint: "http://127.0.0.1:1338", VMID: "i-12345678",
		Certificate: Certificate{CertPath: "/cert.pem", KeyPath: "/key.pem"}, InsecureSkipTLSVerify: true,
		WaitLimit: 5 * time.Minute,
	}
	if got := c.access(); !reflect.DeepEqual(got, want) {
		t.Errorf("the API is reached by\n%+v, want\n%+v", got, want)
	}
	buildertest.EveryField(t, want, "WaitLimit", "regionFrom") // which is an option of both clouds
}
