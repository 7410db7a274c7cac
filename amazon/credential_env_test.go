package amazon

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/packer-chroot/packer-plugin-chroot/loopcloud/ec2"
	"github.com/packer-chroot/packer-plugin-chroot/loopcloud/imds"
	"github.com/packer-chroot/packer-plugin-chroot/loopcloud/sigv4"
	"github.com/packer-chroot/packer-plugin-chroot/loopcloud/state"
	"github.com/packer-chroot/packer-plugin-chroot/loopcloud/state/statetest"
	"github.com/packer-chroot/packer-plugin-chroot/loopcloud/sts"
	"github.com/packer-chroot/packer-plugin-chroot/testdir"
)

// A credentialEnv is a cloud with EC2, STS, metadata, a container's credentials and Vault, a home
// directory, and an environment that refers to nothing else. It records the users of EC2, and
// the requests to STS and Vault.
type credentialEnv struct {
	*testing.T
	st   *state.Cloud
	url  string // EC2, metadata, container and Vault
	home string

	mu    sync.Mutex
	key   string // that the last request to EC2 was signed with
	sts   []url.Values
	vault []*http.Request
}

func newCredentialEnv(t *testing.T) *credentialEnv {
	t.Helper()
	alone(t)
	e := &credentialEnv{T: t, home: os.Getenv("HOME")}
	e.st = open(t, state.Config{
		Dir: testdir.New(t), Disks: statetest.NewDisks(), DefaultRegion: "eu-west-1",
		Keys: []state.Key{{ID: "AKIATEST", Secret: "not-to-be-printed"}},
	})
	t.Cleanup(func() { closed(t, e.st) })
	mux := http.NewServeMux()
	mux.Handle("/latest/", imds.New(e.st))
	mux.Handle("POST /{$}", e.queries())
	mux.HandleFunc("GET /container", e.container)
	mux.HandleFunc("GET /v1/", e.serveVault)
	e.url = e.serve(mux)
	t.Setenv("AWS_CONFIG_FILE", filepath.Join(e.home, "config"))
	t.Setenv("AWS_SHARED_CREDENTIALS_FILE", filepath.Join(e.home, "credentials"))
	t.Setenv("AWS_REGION", "eu-west-1")
	t.Setenv("AWS_ENDPOINT_URL", e.url)
	t.Setenv("AWS_EC2_METADATA_DISABLED", "false")
	t.Setenv("AWS_EC2_METADATA_SERVICE_ENDPOINT", e.url)
	return e
}

func (e *credentialEnv) serve(h http.Handler) string {
	server := httptest.NewServer(h)
	e.Cleanup(server.Close)
	return server.URL
}

// noting notes the key of a request that is authorized.
func (e *credentialEnv) noting(authorize sigv4.Authorizer) sigv4.Authorizer {
	return func(r *http.Request, body []byte, service string) (state.Caller, error) {
		e.mu.Lock()
		e.key = sigv4.KeyID(r)
		e.mu.Unlock()
		return authorize(r, body, service)
	}
}

// queries is EC2, and an STS that records its requests.
func (e *credentialEnv) queries() http.Handler {
	authorize := e.noting(sigv4.NewAuthorizer(e.st))
	tokens, rest := sts.New(e.st, authorize), ec2.New(e.st, authorize)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		form := noted(r)
		if form.Get("Version") != sts.Version {
			rest.ServeHTTP(w, r)
			return
		}
		e.mu.Lock()
		e.sts = append(e.sts, form)
		e.mu.Unlock()
		tokens.ServeHTTP(w, r)
	})
}

// session is a session's keys, known to the cloud by a name.
func (e *credentialEnv) session(name string) state.Key {
	e.Helper()
	key, err := e.st.NewSession(state.DefaultAccount, name, time.Now().Add(time.Hour))
	if err != nil {
		e.Fatal(err)
	}
	return key
}

// container responds as ECS does, to requests with the token.
func (e *credentialEnv) container(w http.ResponseWriter, r *http.Request) {
	if r.Header.Get("Authorization") != "Bearer word" {
		http.Error(w, `{"code":"AccessDenied","message":"no word"}`, http.StatusForbidden)
		return
	}
	key := e.session("container")
	_ = json.NewEncoder(w).Encode(map[string]any{
		"AccessKeyId": key.ID, "SecretAccessKey": key.Secret, "Token": key.Session.Token, "Expiration": key.Session.Until,
	})
}

// serveVault responds as Vault does, for the role build of two engines.
func (e *credentialEnv) serveVault(w http.ResponseWriter, r *http.Request) {
	e.mu.Lock()
	e.vault = append(e.vault, r)
	e.mu.Unlock()
	switch {
	case r.Header.Get("X-Vault-Token") != "t0ken":
		http.Error(w, `{"errors":["permission denied"]}`, http.StatusForbidden)
	case r.URL.Path == "/v1/kv/creds/build":
		fmt.Fprint(w, `{"data":{"colour":"red"}}`)
	case r.URL.Path == "/v1/aws/creds/build", r.URL.Path == "/v1/teams/aws/creds/build":
		key := e.session("vault")
		_ = json.NewEncoder(w).Encode(map[string]any{"lease_duration": 3600, "data": map[string]any{
			"access_key": key.ID, "secret_key": key.Secret, "security_token": key.Session.Token,
		}})
	default:
		http.Error(w, `{"errors":[]}`, http.StatusNotFound)
	}
}

// file writes a file of the home directory, and returns its path.
func (e *credentialEnv) file(name, content string) string {
	e.Helper()
	path := filepath.Join(e.home, name)
	if err := os.WriteFile(path, []byte(content), 0o700); err != nil {
		e.Fatal(err)
	}
	return path
}

// env sets variables.
func (e *credentialEnv) env(values map[string]string) {
	for name, value := range maps.All(values) {
		e.Setenv(name, value)
	}
}

// jwt is the token of a web identity.
func jwt() string {
	return "e30." + base64.RawURLEncoding.EncodeToString([]byte(`{"sub":"pod"}`)) + ".c2ln"
}
