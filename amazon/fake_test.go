package amazon

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"

	"github.com/packer-chroot/packer-plugin-chroot/bake"
	"github.com/packer-chroot/packer-plugin-chroot/bake/cloudtest"
	"github.com/packer-chroot/packer-plugin-chroot/loopcloud/query/apitest"
	"github.com/packer-chroot/packer-plugin-chroot/testdir"
)

// fake is an EC2 and a metadata service with the responses of a test.
type fake struct {
	t *testing.T
	// actions handle EC2's actions. A request for an action without an entry fails the test,
	// unless it is one of settingQuestions.
	actions map[string]action
	// metadata are the entries below /latest; others are not found.
	metadata map[string]string

	mu    sync.Mutex
	calls []url.Values
}

// action handles one EC2 action. It returns an HTTP status and a body.
type action func(url.Values) (status int, body string)

// answer is an action that always succeeds with the same body.
func answer(name, body string) action {
	return func(url.Values) (int, string) {
		return http.StatusOK, "<" + name + "Response>" + body + "</" + name + "Response>"
	}
}

// list is an action that returns a set of items.
func list(name, set string, items []string) action {
	var body strings.Builder
	for _, item := range items {
		body.WriteString("<item>" + item + "</item>")
	}
	return answer(name, "<"+set+">"+body.String()+"</"+set+">")
}

// refuse is an action that EC2 always refuses with a code.
func refuse(code string) action { return refuseWith(http.StatusBadRequest, code) }

func refuseWith(status int, code string) action {
	return refuseInWords(status, code, "the fake refuses")
}

// refuseSaying is an action that EC2 always refuses with a code and these words.
func refuseSaying(code, words string) action {
	return refuseInWords(http.StatusBadRequest, code, words)
}

func refuseInWords(status int, code, words string) action {
	return func(url.Values) (int, string) {
		return status, fmt.Sprintf("<Response><Errors><Error><Code>%s</Code><Message>%s</Message></Error></Errors>"+
			"<RequestID>r-1</RequestID></Response>", code, words)
	}
}

// inTurn handles each call by the next action, and all further calls by the last one.
func inTurn(actions ...action) action {
	n := 0
	return func(form url.Values) (int, string) {
		now := actions[min(n, len(actions)-1)]
		n++
		return now(form)
	}
}

// breakOff is an action that closes the connection.
func breakOff(url.Values) (int, string) { panic(http.ErrAbortHandler) }

// cutOff is an action with an incomplete response.
func cutOff(url.Values) (int, string) { return cut, "<DescribeImagesResponse><imagesSet>" }

// cut is not a status. It stands for a response that is shorter than its length in the header.
const cut = 0

// settingQuestions are optional actions of a build. A fake without entries for them denies
// them.
var settingQuestions = []string{
	"GetAllowedImagesSettings", "GetEbsDefaultKmsKeyId", "GetEbsEncryptionByDefault", "GetImageBlockPublicAccessState", "GetSnapshotBlockPublicAccessState",
}

func (s *fake) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodPost {
		s.serveMetadata(w, r)
		return
	}
	if err := r.ParseForm(); err != nil {
		s.t.Errorf("a request that is no form: %v", err)
	}
	name := r.PostForm.Get("Action")
	act, ok := s.actions[name]
	if !ok && slices.Contains(settingQuestions, name) {
		act, ok = refuse("UnauthorizedOperation"), true
	}
	if !ok {
		s.t.Errorf("unexpected action %s", name)
		act = refuse("InvalidAction")
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.calls = append(s.calls, r.PostForm)
	status, body := act(r.PostForm)
	w.Header().Set("Content-Type", "text/xml")
	if status == cut {
		w.Header().Set("Content-Length", strconv.Itoa(len(body)+1))
		status = http.StatusOK
	}
	w.WriteHeader(status)
	fmt.Fprint(w, body)
}

func (s *fake) serveMetadata(w http.ResponseWriter, r *http.Request) {
	if r.Method == http.MethodPut {
		w.Header().Set("X-Aws-Ec2-Metadata-Token-Ttl-Seconds", "60")
		fmt.Fprint(w, "token")
		return
	}
	entry, ok := s.metadata[strings.TrimPrefix(r.URL.Path, "/latest/")]
	if !ok {
		http.NotFound(w, r)
		return
	}
	fmt.Fprint(w, entry)
}

// made returns the calls of an action.
func (s *fake) made(name string) []url.Values {
	s.mu.Lock()
	defer s.mu.Unlock()
	var calls []url.Values
	for _, form := range s.calls {
		if form.Get("Action") == name {
			calls = append(calls, form)
		}
	}
	return calls
}

// alone removes all environment variables that would lead the SDK outside of the test.
func alone(t *testing.T) {
	t.Helper()
	for _, entry := range os.Environ() {
		name, _, _ := strings.Cut(entry, "=")
		leads := []string{"AWS_", "VAULT_", "HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy"}
		if slices.ContainsFunc(leads, func(lead string) bool { return strings.HasPrefix(name, lead) }) {
			t.Setenv(name, "")
		}
	}
	t.Setenv("HOME", testdir.New(t))
	t.Setenv("AWS_CONFIG_FILE", "/dev/null")
	t.Setenv("AWS_SHARED_CREDENTIALS_FILE", "/dev/null")
	t.Setenv("AWS_EC2_METADATA_DISABLED", "true")
}

// model is loaded before any test changes the environment, in which go looks it up.
var model, errModel = apitest.Load()

// modelled is a server that checks requests against the models of EC2 and STS.
func modelled(t *testing.T, next http.Handler) http.Handler {
	t.Helper()
	if errModel != nil {
		t.Fatal(errModel)
	}
	return model.Requests(t, next)
}

// serve starts a fake, and points the metadata service at it.
func serve(t *testing.T, s *fake) *httptest.Server {
	t.Helper()
	alone(t)
	s.t = t
	server := httptest.NewServer(modelled(t, s))
	t.Cleanup(server.Close)
	t.Setenv("AWS_EC2_METADATA_DISABLED", "false")
	t.Setenv("AWS_EC2_METADATA_SERVICE_ENDPOINT", server.URL)
	return server
}

// access is a complete Access to an endpoint.
func access(endpoint string) AccessConfig {
	return AccessConfig{AccessKey: "AKIATEST", SecretKey: "not-to-be-printed", Region: "eu-west-1", CustomEndpointEC2: endpoint}
}

// dial makes a client that does not pause between attempts.
func dial(t *testing.T, a AccessConfig) *Client {
	t.Helper()
	return dialWithin(t, a, 0)
}

// dialWithin is like dial, with a time limit for requests.
func dialWithin(t *testing.T, a AccessConfig, waitLimit time.Duration) *Client {
	t.Helper()
	c, err := Dial(context.Background(), a, waitLimit)
	if err != nil {
		t.Fatal(err)
	}
	c.policy.Clock = new(cloudtest.Clock)
	if base, ok := c.config.HTTPClient.(*awshttp.BuildableClient); ok {
		c.config.HTTPClient = base.WithTransportOptions(func(t *http.Transport) { t.DialContext = here })
		c.ec2 = c.in(c.Region())
	}
	return c
}

// here connects to this machine only. A client with a custom endpoint sends requests for
// another region to the real address of that region's EC2.
func here(ctx context.Context, network, address string) (net.Conn, error) {
	host, _, err := net.SplitHostPort(address)
	if ip := net.ParseIP(host); err == nil && (ip == nil || !ip.IsLoopback()) && !strings.HasSuffix(host, ".invalid") {
		err = &net.DNSError{Err: "tests ask no other machine", Name: host, IsNotFound: true}
	}
	if err != nil {
		return nil, err
	}
	return new(net.Dialer).DialContext(ctx, network, address)
}

// faked makes a Cloud on a fake.
func faked(t *testing.T, s *fake, opts Config) *Cloud {
	t.Helper()
	return NewCloud(dial(t, access(serve(t, s).URL)), &opts, nil)
}

// logged passes a log of the Cloud's choices to log.
func logged(c *Cloud, log func(format string, args ...any)) *Cloud {
	c.log = log
	return c
}

// says checks that the error is not nil and contains all of the words.
func says(t *testing.T, err error, words ...string) {
	t.Helper()
	if err == nil {
		t.Fatalf("no error, want one that says %q", words)
	}
	for _, word := range words {
		if !strings.Contains(err.Error(), word) {
			t.Errorf("error %q does not say %q", err, word)
		}
	}
	if strings.Contains(err.Error(), "not-to-be-printed") {
		t.Errorf("error %q tells the secret key", err)
	}
}

// look makes a request that changes nothing.
func look(ctx context.Context, cloud bake.Cloud) error {
	_, err := cloud.Named(ctx, "x")
	return err
}
