package amazon

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"time"

	"github.com/packer-chroot/packer-plugin-chroot/bake"
	"github.com/packer-chroot/packer-plugin-chroot/loopcloud/imds"
	"github.com/packer-chroot/packer-plugin-chroot/loopcloud/state"
)

// counting counts requests by their method.
type counting struct {
	next http.Handler
	mu   sync.Mutex
	made map[string]int
}

func (c *counting) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	c.mu.Lock()
	c.made[r.Method]++
	c.mu.Unlock()
	c.next.ServeHTTP(w, r)
}

// metadataOf serves a metadata service, and returns a cloud that uses it. Responses may take
// up to limit, or the default time if limit is 0.
func metadataOf(t *testing.T, service http.Handler, limit time.Duration) (*Cloud, *counting) {
	t.Helper()
	s := &fake{t: t, actions: map[string]action{"DescribeInstances": answer("DescribeInstances", instance)}}
	cloud := faked(t, s, Config{})
	counted := &counting{next: service, made: map[string]int{}}
	server := httptest.NewServer(counted)
	t.Cleanup(server.Close)
	t.Setenv("AWS_EC2_METADATA_DISABLED", "false")
	t.Setenv("AWS_EC2_METADATA_SERVICE_ENDPOINT", server.URL)
	cloud.client = dialWithin(t, cloud.client.access, 4*limit)
	return cloud, counted
}

// machine is the metadata service of a loopcloud's machine with these options, as seen
// from hops away.
func machine(t *testing.T, options state.MetadataOptions, hops int) http.Handler {
	t.Helper()
	tc := newTestCloud(t, state.Instant())
	vm, _ := tc.state.HostVM(account.Region)
	if _, err := tc.state.SetMetadata(account, vm.ID, func(m *state.MetadataOptions) { *m = options }, false); err != nil {
		t.Fatal(err)
	}
	service := imds.New(tc.state)
	service.Hops = hops
	return service
}

// TestMetadataFaults checks that each fault of the metadata service is reported with its
// remedy, after one request for a token and one for the document. Each request has a time
// limit.
func TestMetadataFaults(t *testing.T) {
	const limit = 100 * time.Millisecond
	hang := http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() })
	busy := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusServiceUnavailable) })
	for name, test := range map[string]struct {
		service func(t *testing.T) http.Handler
		// requests is the greatest number of requests.
		requests int
		says     []string
	}{
		"hop limit in a container": {func(t *testing.T) http.Handler { return machine(t, state.MetadataOptions{TokensRequired: true}, 2) }, 2,
			[]string{"IMDSv2", "did not arrive within 100ms", "--http-put-response-hop-limit 2", "instance_id"}},
		"turned off": {func(t *testing.T) http.Handler { return machine(t, state.MetadataOptions{Disabled: true}, 1) }, 2,
			[]string{"turned off", "--http-endpoint enabled", "instance_id"}},
		"no answer": {func(*testing.T) http.Handler { return hang }, 2,
			[]string{"did not answer within 100ms", "overloaded", "--http-put-response-hop-limit 2"}},
		"overloaded": {func(*testing.T) http.Handler { return busy }, 3 * metadataAttempts, []string{"overloaded (HTTP status 503)", "try again"}},
	} {
		t.Run(name, func(t *testing.T) {
			cloud, counted := metadataOf(t, test.service(t), limit)
			_, err := cloud.Host(context.Background())
			says(t, err, append(test.says, "no metadata service")...)
			if n := counted.made[http.MethodPut] + counted.made[http.MethodGet]; n > test.requests {
				t.Errorf("%d requests: %v", n, counted.made)
			}
		})
	}
}

// TestMetadataLimits checks that two requests that time out, which is the longest wait, end
// within five seconds, and that the response of a service that takes a second is used.
func TestMetadataLimits(t *testing.T) {
	if worst := 2 * metadataAnswer; worst >= 5*time.Second || metadataDial > metadataAnswer {
		t.Errorf("a fault is told after %s", worst)
	}
	service := machine(t, state.MetadataOptions{TokensRequired: true}, 1)
	slow := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		time.Sleep(time.Second)
		service.ServeHTTP(w, r)
	})
	cloud, _ := metadataOf(t, slow, 0)
	here, err := cloud.client.identity(context.Background())
	if err != nil || here.instance == "" {
		t.Errorf("identity %+v, %v", here, err)
	}
}

// TestLostMetadataToken checks that if a token is lost and none is required, the metadata are
// read without a token, and no second token is requested.
func TestLostMetadataToken(t *testing.T) {
	cloud, counted := metadataOf(t, machine(t, state.MetadataOptions{}, 2), 500*time.Millisecond)
	for range 3 {
		if here, err := cloud.client.identity(context.Background()); err != nil || here.instance == "" {
			t.Fatalf("identity %+v, %v", here, err)
		}
	}
	if counted.made[http.MethodPut] != 1 || counted.made[http.MethodGet] != 3 {
		t.Errorf("requests %v", counted.made)
	}
}

// TestRoleWhoseKeysAreLost checks that the keys of the instance's role come from the same
// service.
func TestRoleWhoseKeysAreLost(t *testing.T) {
	_, _ = metadataOf(t, machine(t, state.MetadataOptions{TokensRequired: true}, 2), 0)
	_, err := Dial(context.Background(), AccessConfig{Region: "eu-west-1"}, 400*time.Millisecond)
	says(t, err, "no AWS credentials", "role's keys", "--http-put-response-hop-limit 2")
}

// TestOutpost checks that the volume is created on the Outpost of the instance, and that the
// error about a feature that the Outpost lacks contains the remedy.
func TestOutpost(t *testing.T) {
	const arn = "arn:aws:outposts:eu-west-1:123456789012:outpost/op-0123456789abcdef0"
	on := "<reservationSet><item><ownerId>123456789012</ownerId><instancesSet><item><outpostArn>" + arn + "</outpostArn>" +
		"<placement><availabilityZone>eu-west-1a</availabilityZone></placement></item></instancesSet></item></reservationSet>"
	for name, test := range map[string]struct {
		instance, outpost string
		create            action
		says              []string
	}{
		"on an Outpost": {on, arn, answer("CreateVolume", "<volumeId>vol-1</volumeId>"), nil},
		"in a Region":   {instance, "", answer("CreateVolume", "<volumeId>vol-1</volumeId>"), nil},
		"without the type": {on, arn, refuse("UnknownVolumeType"),
			[]string{`root_volume_type = "gp2"`, "Outpost"}},
	} {
		t.Run(name, func(t *testing.T) {
			s := &fake{t: t, metadata: map[string]string{"dynamic/instance-identity/document": document}, actions: map[string]action{
				"DescribeInstances": answer("DescribeInstances", test.instance), "CreateVolume": test.create,
			}}
			var log string
			cloud := logged(faked(t, s, Config{}), func(format string, args ...any) { log += fmt.Sprintf(format, args...) })
			host, err := cloud.Host(context.Background())
			if err != nil {
				t.Fatal(err)
			}
			_, err = cloud.CreateVolume(context.Background(), bake.VolumeSpec{Zone: host.Zone, Placement: host.Placement, SizeGiB: 1, Type: "gp3"})
			if test.says != nil {
				says(t, err, test.says...)
			} else if err != nil {
				t.Fatal(err)
			}
			check(t, s.made("CreateVolume")[0], map[string]string{"OutpostArn": test.outpost})
			if (log != "") != (test.outpost != "") {
				t.Errorf("the user is told %q", log)
			}
		})
	}
}
