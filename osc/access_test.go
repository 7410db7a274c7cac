package osc

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"fmt"
	"math/big"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/packer-chroot/packer-plugin-chroot/bake"
	"github.com/packer-chroot/packer-plugin-chroot/loopcloud/state"
	"github.com/packer-chroot/packer-plugin-chroot/testdir"
)

// configuration writes the file that OSC_CONFIG_FILE names.
func configuration(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(testdir.New(t), "config.json")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

const profiles = `{
	"default": {"access_key": "DAK", "secret_key": "DSK", "region": "eu-west-2"},
	"old": {"access_key": "OAK", "secret_key": "OSK", "region_name": "us-east-2", "host": "outscale.com", "https": true, "method": "POST"},
	"all": {"access_key": "AAK", "secret_key": "ASK", "region": "us-west-1", "tls_skip_verify": true,
		"x509_client_cert": "/c.pem", "x509_client_key": "/k.pem", "endpoints": {"api": "api.example.com"}},
	"half": {"access_key": "HAK"},
	"keyless": {"region": "us-west-1"}
}`

// TestOrigins checks where keys, region, endpoint and certificate are taken from, and in which
// order.
func TestOrigins(t *testing.T) {
	file := configuration(t, profiles)
	chosen := configuration(t, `{"default": {"region": "us-east-2"}, "mine": {"default": true, "access_key": "MAK", "secret_key": "MSK", "region": "us-west-1"}}`)
	own := func(region string) string { return "https://api." + region + ".outscale.com/api/v1" }
	env := map[string]string{"OSC_ACCESS_KEY": "EAK", "OSC_SECRET_KEY": "ESK", "OSC_REGION": "cloudgouv-eu-west-1"}
	and := func(more ...string) map[string]string {
		all := map[string]string{"OSC_CONFIG_FILE": file}
		for k, v := range env {
			all[k] = v
		}
		for i := 0; i < len(more); i += 2 {
			all[more[i]] = more[i+1]
		}
		return all
	}
	tests := map[string]struct {
		in   Access
		env  map[string]string
		want Access
		err  string
	}{
		"default profile": {Access{}, map[string]string{"OSC_CONFIG_FILE": file},
			Access{AccessKey: "DAK", SecretKey: "DSK", Region: "eu-west-2", Endpoint: own("eu-west-2")}, ""},
		"profile that is the default": {Access{}, map[string]string{"OSC_CONFIG_FILE": chosen},
			Access{AccessKey: "MAK", SecretKey: "MSK", Region: "us-west-1", Endpoint: own("us-west-1")}, ""},
		"profile of the environment": {Access{}, map[string]string{"OSC_CONFIG_FILE": file, "OSC_PROFILE": "old"},
			Access{AccessKey: "OAK", SecretKey: "OSK", Region: "us-east-2", Endpoint: own("us-east-2")}, ""},
		"profile of the template": {Access{Profile: "all"}, map[string]string{"OSC_CONFIG_FILE": file, "OSC_PROFILE": "old"},
			Access{AccessKey: "AAK", SecretKey: "ASK", Region: "us-west-1", Endpoint: "https://api.example.com/api/v1", Profile: "all",
				Certificate: Certificate{CertPath: "/c.pem", KeyPath: "/k.pem"}, InsecureSkipTLSVerify: true}, ""},
		"the template before its profile": {Access{Profile: "old", AccessKey: "AK", SecretKey: "SK", Region: "eu-west-2"}, map[string]string{"OSC_CONFIG_FILE": file},
			Access{AccessKey: "AK", SecretKey: "SK", Region: "eu-west-2", Endpoint: own("eu-west-2"), Profile: "old"}, ""},
		"the template's profile before the environment": {Access{Profile: "old"}, and(),
			Access{AccessKey: "OAK", SecretKey: "OSK", Region: "us-east-2", Endpoint: own("us-east-2"), Profile: "old"}, ""},
		"the environment before its profile": {Access{}, and("OSC_PROFILE", "all"),
			Access{AccessKey: "EAK", SecretKey: "ESK", Region: "cloudgouv-eu-west-1", Endpoint: "https://api.example.com/api/v1",
				Certificate: Certificate{CertPath: "/c.pem", KeyPath: "/k.pem"}, InsecureSkipTLSVerify: true}, ""},
		"older variables": {Access{}, map[string]string{
			"OUTSCALE_ACCESSKEYID": "1", "OUTSCALE_SECRETKEYID": "2", "OUTSCALE_REGION": "us-east-2",
			"OUTSCALE_OAPI_URL": "oapi.example.com", "OUTSCALE_X509CERT": "/c", "OUTSCALE_X509KEY": "/k",
		}, Access{AccessKey: "1", SecretKey: "2", Region: "us-east-2", Endpoint: "https://oapi.example.com/api/v1",
			Certificate: Certificate{CertPath: "/c", KeyPath: "/k"}}, ""},
		"today's before older ones": {Access{}, and("OUTSCALE_ACCESSKEYID", "1", "OUTSCALE_SECRETKEYID", "2", "OUTSCALE_REGION", "us-east-2", "OSC_TLS_SKIP_VERIFY", "true"),
			Access{AccessKey: "EAK", SecretKey: "ESK", Region: "cloudgouv-eu-west-1", Endpoint: own("cloudgouv-eu-west-1"), InsecureSkipTLSVerify: true}, ""},
		"no such profile":        {Access{Profile: "none"}, map[string]string{"OSC_CONFIG_FILE": file}, Access{}, `has no profile "none": it has all, default, half, keyless, old`},
		"half a pair":            {Access{Profile: "half"}, and(), Access{}, `access_key of profile "half" is set, but secret_key of profile "half" is not`},
		"a profile without keys": {Access{Profile: "keyless"}, map[string]string{"OSC_CONFIG_FILE": file}, Access{}, "no keys"},
		"half a pair of the environment": {Access{}, map[string]string{"OSC_SECRET_KEY": "ESK", "OSC_REGION": "eu-west-2"}, Access{},
			"OSC_SECRET_KEY is set, but OSC_ACCESS_KEY is not"},
		"no file that is named":   {Access{}, map[string]string{"OSC_CONFIG_FILE": file + ".not"}, Access{}, "no such file"},
		"no file for the profile": {Access{Profile: "old"}, nil, Access{}, `cannot read profile "old"`},
		"a file of something":     {Access{}, map[string]string{"OSC_CONFIG_FILE": configuration(t, "[default]\n")}, Access{}, "is no configuration of Outscale's tools"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			environment(t, test.env)
			got, err := test.in.resolve()
			if err == nil {
				got = got.settle(t.Context())
			}
			got.regionFrom = ""
			switch {
			case test.err == "" && (err != nil || !reflect.DeepEqual(got, test.want)):
				t.Errorf("got %+v, %v\nwant %+v", got, err, test.want)
			case test.err != "" && (err == nil || !strings.Contains(err.Error(), test.err)):
				t.Errorf("the error is %v, not about %q", err, test.err)
			}
		})
	}
}

// TestProfileInHomeDirectory checks that by default the profile is read from the file of
// Outscale's tools.
func TestProfileInHomeDirectory(t *testing.T) {
	environment(t, nil)
	dir := filepath.Join(os.Getenv("HOME"), ".osc")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "config.json"), []byte(profiles), 0o600); err != nil {
		t.Fatal(err)
	}
	if got, err := (Access{}).resolve(); err != nil || got.AccessKey != "DAK" {
		t.Errorf("%+v, %v", got, err)
	}
	if err := os.WriteFile(filepath.Join(dir, "config.json"), []byte("broken"), 0o600); err != nil {
		t.Fatal(err)
	}
	if got, err := (Access{AccessKey: "AK", SecretKey: "SK", Region: "eu-west-2"}).resolve(); err != nil || got.AccessKey != "AK" {
		t.Errorf("who says all needs no file: %+v, %v", got, err)
	}
}

// FuzzProfiles: any file is read or refused.
func FuzzProfiles(f *testing.F) {
	for _, seed := range []string{"", "{}", "[]", profiles, `{"default":null}`, `{"default":{"endpoints":null}}`, `{"a":{"region":1}}`} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		all, err := decodeProfiles(text)
		if err != nil {
			return
		}
		for name, p := range all {
			if from := p.origin(name); from.access.AccessKey != p.AccessKey || from.access.Region == "" && p.RegionName != "" {
				t.Errorf("%q is %+v", text, from)
			}
		}
	})
}

// identityFiles makes a client certificate and its key.
func identityFiles(t *testing.T) (cert, key string) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(7), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &private.PublicKey, private)
	if err != nil {
		t.Fatal(err)
	}
	secret, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	dir := testdir.New(t)
	cert, key = filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	for path, block := range map[string]*pem.Block{cert: {Type: "CERTIFICATE", Bytes: der}, key: {Type: "PRIVATE KEY", Bytes: secret}} {
		if err := os.WriteFile(path, pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return cert, key
}

// TestClientCertificate checks that a client certificate, from files or from base64, is
// presented to the API, and that an invalid one is reported with its option.
func TestClientCertificate(t *testing.T) {
	environment(t, nil)
	cert, key := identityFiles(t)
	encoded := func(path string) string {
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		return base64.StdEncoding.EncodeToString(text)
	}
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		if len(r.TLS.PeerCertificates) == 0 {
			w.WriteHeader(http.StatusForbidden)
			_, _ = w.Write([]byte(refused(403, "AccessDenied", "4", "no certificate").body))
			return
		}
		_, _ = w.Write([]byte(account.body))
	}))
	server.TLS = &tls.Config{ClientAuth: tls.RequestClientCert}
	server.StartTLS()
	t.Cleanup(server.Close)
	tests := map[string]struct {
		certificate Certificate
		err         string
	}{
		"files":       {Certificate{CertPath: cert, KeyPath: key}, ""},
		"base64":      {Certificate{CertBase64: encoded(cert), KeyBase64: encoded(key)}, ""},
		"none":        {Certificate{}, "no certificate"},
		"no key":      {Certificate{CertPath: cert}, "x509_key_path (or OSC_X509_CLIENT_KEY) is not"},
		"no cert":     {Certificate{KeyPath: key}, "x509_cert_path (or OSC_X509_CLIENT_CERT) is not"},
		"no file":     {Certificate{CertPath: cert + ".not", KeyPath: key}, "x509_cert_path"},
		"no key file": {Certificate{CertPath: cert, KeyPath: key + ".not"}, "x509_key_path"},
		"swapped":     {Certificate{CertPath: key, KeyPath: cert}, "cannot be used"},
		"no base64":   {Certificate{CertBase64: "!", KeyBase64: "!"}, "x509_cert_path"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			_, err := Dial(t.Context(), Access{AccessKey: "AK", SecretKey: "SK", Region: home, Endpoint: server.URL,
				InsecureSkipTLSVerify: true, Certificate: test.certificate})
			if (err == nil) != (test.err == "") || err != nil && !strings.Contains(err.Error(), test.err) {
				t.Errorf("%v, want %q", err, test.err)
			}
		})
	}
}

// TestClocks checks that keys refused because of a clock difference are not reported as wrong,
// and that unrelated refusals are not attributed to the clock.
func TestClocks(t *testing.T) {
	environment(t, nil)
	tests := map[string]struct {
		ahead time.Duration // of the API's clock
		code  string
		want  string
	}{
		"behind":          {10 * time.Minute, "1", "the clock of this machine is "},
		"ahead":           {-20 * time.Minute, "1", "ahead of the one of the Outscale API"},
		"about the same":  {2 * time.Minute, "1", "refuses the access key"},
		"locked":          {time.Hour, "13", "is locked"},
		"no date":         {0, "1", "refuses the access key"},
		"another refusal": {time.Hour, "2000", "InternalError"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				w.Header()["Date"] = nil
				if test.ahead != 0 {
					w.Header().Set("Date", time.Now().Add(test.ahead).UTC().Format(http.TimeFormat))
				}
				w.Header().Set("Content-Type", "application/json")
				status, kind := http.StatusUnauthorized, "AccessDenied"
				if test.code == "2000" {
					status, kind = http.StatusInternalServerError, "InternalError"
				}
				w.WriteHeader(status)
				_, _ = w.Write([]byte(refused(status, kind, test.code, "no").body))
			}))
			t.Cleanup(server.Close)
			_, err := Dial(t.Context(), Access{AccessKey: "AK", SecretKey: "SK", Region: home, Endpoint: server.URL, WaitLimit: time.Second})
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("the error is %v, want %q", err, test.want)
			}
			if name == "behind" && !strings.Contains(err.Error(), " behind the one of the Outscale API") {
				t.Errorf("the error is %v", err)
			}
		})
	}
}

// TestVMID checks that vm_id replaces the metadata, which are not requested.
func TestVMID(t *testing.T) {
	o := newOutscale(t, state.Instant())
	vm, _ := o.state.HostVM(home)
	access := o.access()
	access.MetadataEndpoint, access.VMID = "http://"+closedPort(t), vm.ID
	client, err := Dial(t.Context(), access)
	if err != nil {
		t.Fatal(err)
	}
	host, err := NewCloud(client, &Config{}, nil).Host(t.Context())
	if err != nil || host.ID != bake.HostID(vm.ID) || host.Account != me {
		t.Errorf("%+v, %v", host, err)
	}
}

// TestMetadataAvoidProxies checks that proxies of the environment are used for the API, and
// not for the metadata.
func TestMetadataAvoidProxies(t *testing.T) {
	m := newMetadata(Access{})
	if m.http.Transport.(*http.Transport).Proxy != nil {
		t.Error("metadata are asked through a proxy")
	}
	if newTransport(Access{}, nil).Proxy == nil {
		t.Error("the API is not reached through a proxy")
	}
}

// TestFullVM checks that a VM with the maximum number of volumes is reported before a volume
// is created.
func TestFullVM(t *testing.T) {
	var mappings []string
	for i := range maxVolumes {
		mappings = append(mappings, fmt.Sprintf(`{"DeviceName":"/dev/xvd%c%c","Bsu":{"VolumeId":"vol-%08x"}}`, 'b'+i/26, 'a'+i%26, i))
	}
	for n, full := range map[int]bool{maxVolumes - 1: false, maxVolumes: true} {
		s := newFake(t, map[string][]reply{
			"ReadVms":     {{200, `{"Vms":[{"VmId":"i-12345678","BlockDeviceMappings":[` + strings.Join(mappings[:n], ",") + `]}]}`}},
			"instance-id": {{200, "i-12345678"}},
		})
		if _, err := s.cloud(Config{}).Host(t.Context()); (err != nil) != full || full && !strings.Contains(err.Error(), "has 40 volumes") {
			t.Errorf("%d volumes: %v", n, err)
		}
	}
}
