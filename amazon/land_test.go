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

// A land is a cloud with EC2, STS, metadata, a container's credentials and Vault, a home
// directory, and an environment that refers to nothing else. It records the users of EC2, and
// the requests to STS and Vault.
type land struct {
	*testing.T
	st   *state.Cloud
	url  string // EC2, metadata, container and Vault
	home string

	mu    sync.Mutex
	key   string // that the last request to EC2 was signed with
	sts   []url.Values
	vault []*http.Request
}

func newLand(t *testing.T) *land {
	t.Helper()
	alone(t)
	l := &land{T: t, home: os.Getenv("HOME")}
	l.st = open(t, state.Config{
		Dir: testdir.New(t), Disks: statetest.NewDisks(), DefaultRegion: "eu-west-1",
		Keys: []state.Key{{ID: "AKIATEST", Secret: "not-to-be-printed"}},
	})
	t.Cleanup(func() { closed(t, l.st) })
	mux := http.NewServeMux()
	mux.Handle("/latest/", imds.New(l.st))
	mux.Handle("POST /{$}", l.queries())
	mux.HandleFunc("GET /container", l.container)
	mux.HandleFunc("GET /v1/", l.serveVault)
	l.url = l.serve(mux)
	t.Setenv("AWS_CONFIG_FILE", filepath.Join(l.home, "config"))
	t.Setenv("AWS_SHARED_CREDENTIALS_FILE", filepath.Join(l.home, "credentials"))
	t.Setenv("AWS_REGION", "eu-west-1")
	t.Setenv("AWS_ENDPOINT_URL", l.url)
	t.Setenv("AWS_EC2_METADATA_DISABLED", "false")
	t.Setenv("AWS_EC2_METADATA_SERVICE_ENDPOINT", l.url)
	return l
}

func (l *land) serve(h http.Handler) string {
	server := httptest.NewServer(h)
	l.Cleanup(server.Close)
	return server.URL
}

// noting notes the key of a request that is authorized.
func (l *land) noting(authorize sigv4.Authorizer) sigv4.Authorizer {
	return func(r *http.Request, body []byte, service string) (state.Caller, error) {
		l.mu.Lock()
		l.key = sigv4.KeyID(r)
		l.mu.Unlock()
		return authorize(r, body, service)
	}
}

// queries is EC2, and an STS that records its requests.
func (l *land) queries() http.Handler {
	authorize := l.noting(sigv4.NewAuthorizer(l.st))
	tokens, rest := sts.New(l.st, authorize), ec2.New(l.st, authorize)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		form := noted(r)
		if form.Get("Version") != sts.Version {
			rest.ServeHTTP(w, r)
			return
		}
		l.mu.Lock()
		l.sts = append(l.sts, form)
		l.mu.Unlock()
		tokens.ServeHTTP(w, r)
	})
}

// session is a session's keys, known to the cloud by a name.
func (l *land) session(name string) state.Key {
	l.Helper()
	key, err := l.st.NewSession(state.DefaultAccount, name, time.Now().Add(time.Hour))
	if err != nil {
		l.Fatal(err)
	}
	return key
}

// container responds as ECS does, to requests with the token.
func (l *land) container(w http.ResponseWriter, r *http.Request) {
	if r.Header.Get("Authorization") != "Bearer word" {
		http.Error(w, `{"code":"AccessDenied","message":"no word"}`, http.StatusForbidden)
		return
	}
	key := l.session("container")
	_ = json.NewEncoder(w).Encode(map[string]any{
		"AccessKeyId": key.ID, "SecretAccessKey": key.Secret, "Token": key.Session.Token, "Expiration": key.Session.Until,
	})
}

// serveVault responds as Vault does, for the role build of two engines.
func (l *land) serveVault(w http.ResponseWriter, r *http.Request) {
	l.mu.Lock()
	l.vault = append(l.vault, r)
	l.mu.Unlock()
	switch {
	case r.Header.Get("X-Vault-Token") != "t0ken":
		http.Error(w, `{"errors":["permission denied"]}`, http.StatusForbidden)
	case r.URL.Path == "/v1/kv/creds/build":
		fmt.Fprint(w, `{"data":{"colour":"red"}}`)
	case r.URL.Path == "/v1/aws/creds/build", r.URL.Path == "/v1/teams/aws/creds/build":
		key := l.session("vault")
		_ = json.NewEncoder(w).Encode(map[string]any{"lease_duration": 3600, "data": map[string]any{
			"access_key": key.ID, "secret_key": key.Secret, "security_token": key.Session.Token,
		}})
	default:
		http.Error(w, `{"errors":[]}`, http.StatusNotFound)
	}
}

// file writes a file of the home directory, and returns its path.
func (l *land) file(name, content string) string {
	l.Helper()
	path := filepath.Join(l.home, name)
	if err := os.WriteFile(path, []byte(content), 0o700); err != nil {
		l.Fatal(err)
	}
	return path
}

// env sets variables.
func (l *land) env(values map[string]string) {
	for name, value := range maps.All(values) {
		l.Setenv(name, value)
	}
}

// jwt is the token of a web identity.
func jwt() string {
	return "e30." + base64.RawURLEncoding.EncodeToString([]byte(`{"sub":"pod"}`)) + ".c2ln"
}
