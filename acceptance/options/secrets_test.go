package options

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/packer-chroot/packer-plugin-chroot/acceptance/harness"
)

// secretSet holds the secrets of a build, including those that are issued while it runs.
type secretSet struct {
	mu  sync.Mutex
	all []string
}

func (s *secretSet) add(secrets ...string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.all = append(s.all, secrets...)
}

// list returns all of them, each once.
func (s *secretSet) list() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Compact(slices.Sorted(slices.Values(s.all)))
}

// in returns the first secret in a text, or "".
func (s *secretSet) in(text string) string {
	for _, secret := range s.list() {
		if strings.Contains(text, secret) {
			return secret
		}
	}
	return ""
}

// secretSource is a way in which a build gets secrets.
type secretSource struct {
	name   string
	flavor harness.Flavor
	// set prepares the box, and returns options and environment. Files that it writes belong to the user and may hold
	// secrets.
	set func(b *harness.Box, s *secretSet) (options harness.O, env []string)
	// fresh is the least number of secrets: keys that are renewed add to those of the start.
	fresh int
}

// secretSources returns all ways in which a build gets secrets.
func secretSources() []secretSource {
	amazon, outscale := harness.Flavors[0], harness.Flavors[1]
	return []secretSource{
		{"keys and token of the template", amazon, func(b *harness.Box, s *secretSet) (harness.O, []string) {
			id, key, token := session(b)
			firmware := base64.StdEncoding.EncodeToString([]byte("the platform key of " + b.Dir))
			s.add(key, token, firmware)
			return harness.O{"access_key": id, "secret_key": key, "token": token, "boot_mode": "uefi", "uefi_data": firmware}, nil
		}, 3},
		{"a role whose keys are renewed", amazon, func(b *harness.Box, s *secretSet) (harness.O, []string) {
			s.add(harness.Secret)
			return harness.O{"assume_role": harness.O{"role_arn": role}}, []string{"AWS_ENDPOINT_URL_STS=" + hasty(b, s)}
		}, 5},
		{"a profile with MFA", amazon, func(b *harness.Box, s *secretSet) (harness.O, []string) {
			s.add(harness.Secret, "918273")
			b.Write("home/.aws/credentials", "[keys]\naws_access_key_id="+harness.KeyID+"\naws_secret_access_key="+harness.Secret+"\n")
			b.Write("home/.aws/config", "[profile build]\nrole_arn="+role+"\nsource_profile=keys\nmfa_serial=GAHT12345678\n")
			return harness.O{"profile": "build", "mfa_code": "918273"}, []string{"AWS_ENDPOINT_URL_STS=" + tapped(b, s, nil)}
		}, 4},
		{"vault", amazon, func(b *harness.Box, s *secretSet) (harness.O, []string) {
			s.add("hvs.t0ken-of-vault")
			return harness.O{"vault_aws_engine": harness.O{"name": "images"}},
				[]string{"VAULT_ADDR=" + vault(b, s), "VAULT_TOKEN=hvs.t0ken-of-vault"}
		}, 5},
		{"the instance's role", amazon, func(b *harness.Box, s *secretSet) (harness.O, []string) {
			return harness.O{"custom_endpoint_metadata": tapped(b, s, nil)}, nil
		}, 2},
		{"keys of the template and a certificate", outscale, func(b *harness.Box, s *secretSet) (harness.O, []string) {
			host := tlsProxy(b, new(atomic.Bool))
			b.Sh("openssl req -x509 -newkey rsa:2048 -nodes -days 1 -subj /CN=packer -keyout " + b.Dir + "/home/key.pem -out " + b.Dir + "/home/cert.pem 2>/dev/null")
			s.add(harness.Secret, strings.Split(harness.Read(b.Dir+"/home/key.pem"), "\n")[2])
			return harness.O{
				"access_key": harness.KeyID, "secret_key": harness.Secret, "region": harness.Region, "custom_endpoint_oapi": host, "insecure_skip_tls_verify": true,
				"x509_cert_path": filepath.Join(b.Dir, "home", "cert.pem"), "x509_key_path": filepath.Join(b.Dir, "home", "key.pem"),
			}, nil
		}, 2},
		{"a profile with a certificate", outscale, func(b *harness.Box, s *secretSet) (harness.O, []string) {
			b.Sh("openssl req -x509 -newkey rsa:2048 -nodes -days 1 -subj /CN=packer -keyout " + b.Dir + "/home/key.pem -out " + b.Dir + "/home/cert.pem 2>/dev/null")
			encoded := func(name string) string {
				return base64.StdEncoding.EncodeToString([]byte(harness.Read(filepath.Join(b.Dir, "home", name))))
			}
			s.add(harness.Secret, encoded("key.pem"))
			profile, err := json.Marshal(harness.O{"work": harness.O{
				"access_key": harness.KeyID, "secret_key": harness.Secret, "region": harness.Region, "endpoints": harness.O{"api": b.Endpoint},
				"x509_client_cert_b64": encoded("cert.pem"), "x509_client_key_b64": encoded("key.pem"),
			}})
			b.Must(err)
			return harness.O{"profile": "work"}, []string{"OSC_CONFIG_FILE=" + b.Write("home/config.json", string(profile))}
		}, 2},
	}
}

// TestSecretsDoNotLeak looks for the secrets of a build in its output, logs, report, image and files, and while it runs in its
// journal and in the arguments of its processes.
func TestSecretsDoNotLeak(t *testing.T) {
	harness.NeedRoot(t)
	t.Parallel()
	for _, c := range secretSources() {
		t.Run(c.flavor.Name+" with "+c.name, func(t *testing.T) {
			t.Parallel()
			b, s := harness.New(t), &secretSet{}
			options, env := c.set(b, s)
			logs := filepath.Join(b.Dir, "logs")
			b.Must(os.Mkdir(logs, 0o700))
			b.Env = append(without(b.Env, "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "OSC_ACCESS_KEY", "OSC_SECRET_KEY"), env...)
			if slices.Contains(s.list(), harness.Secret) && c.flavor.Prefix == "ami" && options["profile"] == nil {
				b.Env = append(b.Env, "AWS_ACCESS_KEY_ID="+harness.KeyID, "AWS_SECRET_ACCESS_KEY="+harness.Secret)
			}
			b.Env = append(b.Env, "PACKER_CHROOT_LOCK_DIR="+filepath.Join(b.Dir, "lock"), "PACKER_LOG=1", "PACKER_LOG_PATH="+filepath.Join(logs, "packer.log"))
			b.Calls()
			options["report"] = filepath.Join(logs, "report.html")
			template := b.Template(c.flavor.Basic(options), pause(b), harness.Shell("true"))

			b.Control(http.MethodPost, "faults", harness.O{"action": c.flavor.Action("CreateVolume"), "times": 1, "error": "unavailable"}, nil)
			whispered(b, s, template, true)
			image := b.BuiltFrom(harness.SourceID).ID
			holdsNone(b, s, "the image", grep(b, b.Disk(image), s.list()))

			b.Control(http.MethodPost, "faults", harness.O{"action": c.flavor.Action("CreateSnapshot"), "error": "denied"}, nil)
			options[c.flavor.Prefix+"_name"] = "refused"
			whispered(b, s, b.Template(c.flavor.Basic(options), pause(b), harness.Shell("true")), false)

			if n := len(s.list()); n < c.fresh {
				t.Errorf("there were %d secrets, want at least %d", n, c.fresh)
			}
			record, err := json.Marshal(asked(b))
			b.Must(err)
			holdsNone(b, s, "the record of calls", string(record))
			holdsNone(b, s, "loopcloud's log", b.Output.String())
			if strings.Contains(string(record), "user-data") {
				t.Error("the user data were asked for")
			}
		})
	}
}

// pause is a provisioner that waits until it may go on.
func pause(b *harness.Box) harness.O {
	started, done := filepath.Join(b.Dir, "started"), filepath.Join(b.Dir, "done")
	return harness.O{"type": "shell-local", "inline": []string{"touch " + started + "; while [ ! -e " + done + " ]; do sleep 0.1; done"}}
}

// asked is the record of calls, which goes on.
func asked(b *harness.Box) (all []map[string]any) {
	b.Helper()
	b.Control(http.MethodGet, "calls", nil, &all)
	return all
}

// whispered builds with -debug, and looks for secrets in the output, in the arguments of processes, and in files.
func whispered(b *harness.Box, s *secretSet, template string, succeeds bool) {
	b.Helper()
	started, done := filepath.Join(b.Dir, "started"), filepath.Join(b.Dir, "done")
	ctx, cancel := context.WithTimeout(context.Background(), harness.Deadline)
	defer cancel()
	cmd := b.Command(ctx, "build", "-debug", "-color=false", template)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	b.Must(cmd.Start())
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	watching := watched(b, s)
	for !harness.Exists(started) {
		select {
		case err := <-ended:
			watching()
			b.Fatalf("packer build ended before it provisioned: %v\n%s\n%s", err, &out, b.Output)
		case <-time.After(20 * time.Millisecond):
		}
	}
	if journals := leaks(b, s, "state"); journals == 0 {
		b.Error("there is no journal to look at")
	}
	leaks(b, s, "tmp", "lock", "logs")
	b.Must(os.WriteFile(done, nil, 0o600))
	err := <-ended
	watching()
	b.Must(os.Remove(started))
	b.Must(os.Remove(done))
	if (err == nil) != succeeds {
		b.Fatalf("packer build: %v\n%s\n%s", err, &out, b.Output)
	}
	holdsNone(b, s, "what is printed", out.String())
	if leaks(b, s, "tmp", "lock", "state", "logs") == 0 {
		b.Error("there is no log to look at")
	}
	if crashes, _ := filepath.Glob(filepath.Join(b.Dir, "crash*.log")); len(crashes) > 0 {
		b.Errorf("crashed: %v", crashes)
	}
}

// watched looks for secrets in the arguments of the build's processes, which every user can read, until stop is called.
// Only the user and root can read their environment.
func watched(b *harness.Box, s *secretSet) (stop func()) {
	off := make(chan struct{})
	var watching sync.WaitGroup
	watching.Go(func() {
		for {
			for _, pid := range harness.PidsWith(b.Marker) {
				line := harness.Read(fmt.Sprintf("/proc/%d/cmdline", pid))
				holdsNone(b, s, fmt.Sprintf("the command line %q", line), line)
			}
			select {
			case <-off:
				return
			case <-time.After(50 * time.Millisecond):
			}
		}
	})
	return func() { close(off); watching.Wait() }
}

// leaks fails the test if a file below these directories of the box holds a secret, or if every user can read a
// journal. It returns the number of files.
func leaks(b *harness.Box, s *secretSet, dirs ...string) (files int) {
	b.Helper()
	for _, dir := range dirs {
		b.Must(filepath.WalkDir(filepath.Join(b.Dir, dir), func(path string, d fs.DirEntry, err error) error {
			if err != nil || !d.Type().IsRegular() {
				return ignoreGone(err)
			}
			holdsNone(b, s, path, harness.Read(path))
			if info, err := d.Info(); err == nil && dir == "state" && info.Mode()&0o077 != 0 {
				b.Errorf("%s has mode %v", path, info.Mode())
			}
			files++
			return nil
		}))
	}
	return files
}

// ignoreGone returns nil if the error is about a file that was removed meanwhile.
func ignoreGone(err error) error {
	if os.IsNotExist(err) {
		return nil
	}
	return err
}

// holdsNone fails the test if a text holds a secret.
func holdsNone(b *harness.Box, s *secretSet, what, text string) {
	b.Helper()
	if secret := s.in(text); secret != "" {
		b.Errorf("%s holds the secret %q", what, secret)
	}
}

// grep returns those of the texts that a file holds. The file may be large.
func grep(b *harness.Box, path string, texts []string) string {
	b.Helper()
	cmd := exec.Command("grep", "-aoFf", "-", path)
	cmd.Stdin = strings.NewReader(strings.Join(texts, "\n"))
	found, err := cmd.Output()
	var status *exec.ExitError
	if err != nil && (!errors.As(err, &status) || status.ExitCode() != 1) {
		b.Fatalf("grep: %v", err)
	}
	return string(found)
}

// issued matches keys in a response of STS or of the metadata service.
var issued = regexp.MustCompile(`(?:<SecretAccessKey>|<SessionToken>|"SecretAccessKey"\s*:\s*"|"Token"\s*:\s*")([^<"]+)`)

// tapped returns the address of a proxy before the box's cloud that records the keys in responses, and passes responses
// through change.
func tapped(b *harness.Box, s *secretSet, change func([]byte) []byte) string {
	b.Helper()
	to, err := url.Parse(b.Endpoint)
	b.Must(err)
	server := httptest.NewServer(&httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) {
			r.SetURL(to)
			r.Out.Host = r.In.Host // it is signed
		},
		ModifyResponse: func(r *http.Response) error {
			body, err := io.ReadAll(r.Body)
			if err != nil {
				return err
			}
			for _, m := range issued.FindAllSubmatch(body, -1) {
				s.add(string(m[1]))
			}
			if change != nil {
				body = change(body)
			}
			r.Body, r.ContentLength = io.NopCloser(bytes.NewReader(body)), int64(len(body))
			r.Header.Set("Content-Length", strconv.Itoa(len(body)))
			return nil
		},
	})
	b.Cleanup(server.Close)
	return server.URL
}

var expiration = regexp.MustCompile(`<Expiration>[^<]*`)

// hasty hands out keys that end in a second, so that a build renews them.
func hasty(b *harness.Box, s *secretSet) string {
	return tapped(b, s, func(body []byte) []byte {
		soon := time.Now().Add(time.Second).UTC().Format(time.RFC3339)
		return expiration.ReplaceAll(body, []byte("<Expiration>"+soon))
	})
}

// vault serves keys with a lease of one second.
func vault(b *harness.Box, s *secretSet) string {
	b.Helper()
	server := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/v1/aws/creds/images" || r.Header.Get("X-Vault-Token") == "" {
			http.NotFound(rw, r)
			return
		}
		id, key, token := session(b)
		s.add(key, token)
		_ = json.NewEncoder(rw).Encode(harness.O{"lease_duration": 1, "data": harness.O{"access_key": id, "secret_key": key, "security_token": token}})
	}))
	b.Cleanup(server.Close)
	return server.URL
}
