package acceptance

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
)

// whispers are the secrets of a build, those too that come up while it runs.
type whispers struct {
	mu  sync.Mutex
	all []string
}

func (w *whispers) add(secrets ...string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.all = append(w.all, secrets...)
}

// list is all of them, each once.
func (w *whispers) list() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Compact(slices.Sorted(slices.Values(w.all)))
}

// in tells the first secret that a text holds; empty if there is none.
func (w *whispers) in(text string) string {
	for _, secret := range w.list() {
		if strings.Contains(text, secret) {
			return secret
		}
	}
	return ""
}

// confidential is a build that is given secrets in some way.
type confidential struct {
	name   string
	flavor flavor
	// set prepares the box, and answers options and more environment. What it writes is
	// the user's own, and may hold secrets.
	set func(b *box, w *whispers) (options o, env []string)
	// fresh is how many secrets must have come up at least: with keys that are renewed
	// there are more than those of the start.
	fresh int
}

// confidences are all ways by which a build comes to its secrets.
func confidences() []confidential {
	amazon, outscale := flavors[0], flavors[1]
	return []confidential{
		{"keys and token of the template", amazon, func(b *box, w *whispers) (o, []string) {
			id, key, token := b.session()
			firmware := base64.StdEncoding.EncodeToString([]byte("the platform key of " + b.dir))
			w.add(key, token, firmware)
			return o{"access_key": id, "secret_key": key, "token": token, "boot_mode": "uefi", "uefi_data": firmware}, nil
		}, 3},
		{"a role whose keys are renewed", amazon, func(b *box, w *whispers) (o, []string) {
			w.add(secret)
			return o{"assume_role": o{"role_arn": role}}, []string{"AWS_ENDPOINT_URL_STS=" + b.hasty(w)}
		}, 5},
		{"a profile with MFA", amazon, func(b *box, w *whispers) (o, []string) {
			w.add(secret, "918273")
			b.write("home/.aws/credentials", "[keys]\naws_access_key_id="+keyID+"\naws_secret_access_key="+secret+"\n")
			b.write("home/.aws/config", "[profile build]\nrole_arn="+role+"\nsource_profile=keys\nmfa_serial=GAHT12345678\n")
			return o{"profile": "build", "mfa_code": "918273"}, []string{"AWS_ENDPOINT_URL_STS=" + b.tapped(w, nil)}
		}, 4},
		{"vault", amazon, func(b *box, w *whispers) (o, []string) {
			w.add("hvs.t0ken-of-vault")
			return o{"vault_aws_engine": o{"name": "images"}},
				[]string{"VAULT_ADDR=" + b.vault(w), "VAULT_TOKEN=hvs.t0ken-of-vault"}
		}, 5},
		{"the instance's role", amazon, func(b *box, w *whispers) (o, []string) {
			return o{"custom_endpoint_metadata": b.tapped(w, nil)}, nil
		}, 2},
		{"keys of the template and a certificate", outscale, func(b *box, w *whispers) (o, []string) {
			host := b.tls(new(atomic.Bool))
			b.sh("openssl req -x509 -newkey rsa:2048 -nodes -days 1 -subj /CN=packer -keyout " + b.dir + "/home/key.pem -out " + b.dir + "/home/cert.pem 2>/dev/null")
			w.add(secret, strings.Split(read(b.dir+"/home/key.pem"), "\n")[2])
			return o{
				"access_key": keyID, "secret_key": secret, "region": region, "custom_endpoint_oapi": host, "insecure_skip_tls_verify": true,
				"x509_cert_path": filepath.Join(b.dir, "home", "cert.pem"), "x509_key_path": filepath.Join(b.dir, "home", "key.pem"),
			}, nil
		}, 2},
		{"a profile with a certificate", outscale, func(b *box, w *whispers) (o, []string) {
			b.sh("openssl req -x509 -newkey rsa:2048 -nodes -days 1 -subj /CN=packer -keyout " + b.dir + "/home/key.pem -out " + b.dir + "/home/cert.pem 2>/dev/null")
			encoded := func(name string) string {
				return base64.StdEncoding.EncodeToString([]byte(read(filepath.Join(b.dir, "home", name))))
			}
			w.add(secret, encoded("key.pem"))
			profile, err := json.Marshal(o{"work": o{
				"access_key": keyID, "secret_key": secret, "region": region, "endpoints": o{"api": b.endpoint},
				"x509_client_cert_b64": encoded("cert.pem"), "x509_client_key_b64": encoded("key.pem"),
			}})
			b.must(err)
			return o{"profile": "work"}, []string{"OSC_CONFIG_FILE=" + b.write("home/config.json", string(profile))}
		}, 2},
	}
}

// TestSecretsStayInside looks for the secrets of a build in all that it leaves, with
// every log, and in what can be seen of it while it runs: its journal, the arguments
// of its processes, its files, its image.
func TestSecretsStayInside(t *testing.T) {
	needRoot(t)
	t.Parallel()
	for _, c := range confidences() {
		t.Run(c.flavor.name+" with "+c.name, func(t *testing.T) {
			t.Parallel()
			b, w := newBox(t), &whispers{}
			options, env := c.set(b, w)
			logs := filepath.Join(b.dir, "logs")
			b.must(os.Mkdir(logs, 0o700))
			b.env = append(without(b.env, "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "OSC_ACCESS_KEY", "OSC_SECRET_KEY"), env...)
			if slices.Contains(w.list(), secret) && c.flavor.prefix == "ami" && options["profile"] == nil {
				b.env = append(b.env, "AWS_ACCESS_KEY_ID="+keyID, "AWS_SECRET_ACCESS_KEY="+secret)
			}
			b.env = append(b.env, "PACKER_LOG=1", "PACKER_LOG_PATH="+filepath.Join(logs, "packer.log"))
			b.calls()
			template := b.template(c.flavor.basic(options), b.pause(), shell("true"))

			b.control(http.MethodPost, "faults", o{"action": c.flavor.nameOf("CreateVolume"), "times": 1, "error": "unavailable"}, nil)
			b.whispered(w, template, true)
			image := b.builtFrom(sourceID).ID
			b.holdsNone(w, "the image", b.grep(b.disk(image), w.list()))

			b.control(http.MethodPost, "faults", o{"action": c.flavor.nameOf("CreateSnapshot"), "error": "denied"}, nil)
			options[c.flavor.prefix+"_name"] = "refused"
			b.whispered(w, b.template(c.flavor.basic(options), b.pause(), shell("true")), false)

			if n := len(w.list()); n < c.fresh {
				t.Errorf("there were %d secrets, want at least %d", n, c.fresh)
			}
			record, err := json.Marshal(b.asked())
			b.must(err)
			b.holdsNone(w, "the record of calls", string(record))
			b.holdsNone(w, "loopcloud's log", b.log.String())
			if strings.Contains(string(record), "user-data") {
				t.Error("the user data were asked for")
			}
		})
	}
}

// pause is a provisioner that waits until it may go on.
func (b *box) pause() o {
	started, done := filepath.Join(b.dir, "started"), filepath.Join(b.dir, "done")
	return o{"type": "shell-local", "inline": []string{"touch " + started + "; while [ ! -e " + done + " ]; do sleep 0.1; done"}}
}

// asked is the record of calls, which goes on.
func (b *box) asked() (all []map[string]any) {
	b.t.Helper()
	b.control(http.MethodGet, "calls", nil, &all)
	return all
}

// whispered builds with -debug, and looks for secrets all the while: in what is
// printed, in the arguments of processes, and in files.
func (b *box) whispered(w *whispers, template string, succeeds bool) {
	b.t.Helper()
	started, done := filepath.Join(b.dir, "started"), filepath.Join(b.dir, "done")
	ctx, cancel := context.WithTimeout(context.Background(), deadline)
	defer cancel()
	cmd := b.command(ctx, "build", "-debug", "-color=false", template)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	b.must(cmd.Start())
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	watching := b.watched(w)
	for !exists(started) {
		select {
		case err := <-ended:
			watching()
			b.t.Fatalf("packer build ended before it provisioned: %v\n%s\n%s", err, &out, b.log)
		case <-time.After(20 * time.Millisecond):
		}
	}
	if journals := b.leaks(w, "state"); journals == 0 {
		b.t.Error("there is no journal to look at")
	}
	b.leaks(w, "tmp", "lock", "logs")
	b.must(os.WriteFile(done, nil, 0o600))
	err := <-ended
	watching()
	b.must(os.Remove(started))
	b.must(os.Remove(done))
	if (err == nil) != succeeds {
		b.t.Fatalf("packer build: %v\n%s\n%s", err, &out, b.log)
	}
	b.holdsNone(w, "what is printed", out.String())
	if b.leaks(w, "tmp", "lock", "state", "logs") == 0 {
		b.t.Error("there is no log to look at")
	}
	if crashes, _ := filepath.Glob(filepath.Join(b.dir, "crash*.log")); len(crashes) > 0 {
		b.t.Errorf("crashed: %v", crashes)
	}
}

// watched looks at the arguments of the build's processes, which everybody can read,
// until it is called off. Their environment only the user and root can read.
func (b *box) watched(w *whispers) (stop func()) {
	off := make(chan struct{})
	var watching sync.WaitGroup
	watching.Go(func() {
		for {
			for _, pid := range pidsWith(b.marker) {
				line := read(fmt.Sprintf("/proc/%d/cmdline", pid))
				b.holdsNone(w, fmt.Sprintf("the command line %q", line), line)
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

// leaks fails the test if a file below these directories of the box holds a secret,
// or can be read by everybody where it is the build's memory, and answers how many
// files it has looked into.
func (b *box) leaks(w *whispers, dirs ...string) (files int) {
	b.t.Helper()
	for _, dir := range dirs {
		b.must(filepath.WalkDir(filepath.Join(b.dir, dir), func(path string, d fs.DirEntry, err error) error {
			if err != nil || !d.Type().IsRegular() {
				return ignoreGone(err)
			}
			b.holdsNone(w, path, read(path))
			if info, err := d.Info(); err == nil && dir == "state" && info.Mode()&0o077 != 0 {
				b.t.Errorf("%s has mode %v", path, info.Mode())
			}
			files++
			return nil
		}))
	}
	return files
}

// ignoreGone is nil for what was removed meanwhile.
func ignoreGone(err error) error {
	if os.IsNotExist(err) {
		return nil
	}
	return err
}

// holdsNone fails the test if a text holds a secret.
func (b *box) holdsNone(w *whispers, what, text string) {
	b.t.Helper()
	if secret := w.in(text); secret != "" {
		b.t.Errorf("%s holds the secret %q", what, secret)
	}
}

// grep answers what of a file, which may be large, is among the texts.
func (b *box) grep(path string, texts []string) string {
	b.t.Helper()
	cmd := exec.Command("grep", "-aoFf", "-", path)
	cmd.Stdin = strings.NewReader(strings.Join(texts, "\n"))
	found, err := cmd.Output()
	var status *exec.ExitError
	if err != nil && (!errors.As(err, &status) || status.ExitCode() != 1) {
		b.t.Fatalf("grep: %v", err)
	}
	return string(found)
}

// issued are keys in an answer of STS or of the metadata.
var issued = regexp.MustCompile(`(?:<SecretAccessKey>|<SessionToken>|"SecretAccessKey"\s*:\s*"|"Token"\s*:\s*")([^<"]+)`)

// tapped is the box's cloud behind a proxy that notes the keys which it hands out;
// change changes an answer.
func (b *box) tapped(w *whispers, change func([]byte) []byte) string {
	b.t.Helper()
	to, err := url.Parse(b.endpoint)
	b.must(err)
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
				w.add(string(m[1]))
			}
			if change != nil {
				body = change(body)
			}
			r.Body, r.ContentLength = io.NopCloser(bytes.NewReader(body)), int64(len(body))
			r.Header.Set("Content-Length", strconv.Itoa(len(body)))
			return nil
		},
	})
	b.t.Cleanup(server.Close)
	return server.URL
}

var expiration = regexp.MustCompile(`<Expiration>[^<]*`)

// hasty hands out keys that end in a second, so that a build renews them.
func (b *box) hasty(w *whispers) string {
	return b.tapped(w, func(body []byte) []byte {
		soon := time.Now().Add(time.Second).UTC().Format(time.RFC3339)
		return expiration.ReplaceAll(body, []byte("<Expiration>"+soon))
	})
}

// vault hands out keys whose lease ends in a second.
func (b *box) vault(w *whispers) string {
	b.t.Helper()
	server := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/v1/aws/creds/images" || r.Header.Get("X-Vault-Token") == "" {
			http.NotFound(rw, r)
			return
		}
		id, key, token := b.session()
		w.add(key, token)
		_ = json.NewEncoder(rw).Encode(o{"lease_duration": 1, "data": o{"access_key": id, "secret_key": key, "security_token": token}})
	}))
	b.t.Cleanup(server.Close)
	return server.URL
}
