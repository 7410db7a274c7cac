package amazon

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/packer-chroot/packer-plugin-chroot/bake"
	"github.com/packer-chroot/packer-plugin-chroot/builder"
)

// acts are the requests that a build makes, by EC2's name of the operation.
var acts = map[string]func(context.Context, *Cloud) error{
	"AttachVolume": func(ctx context.Context, c *Cloud) error { return c.Attach(ctx, "vol-1", "i-1", "/dev/sdf") },
	"CreateSnapshot": func(ctx context.Context, c *Cloud) error {
		_, err := c.CreateSnapshot(ctx, bake.SnapshotSpec{Volume: "vol-1"})
		return err
	},
	"CreateVolume": func(ctx context.Context, c *Cloud) error {
		_, err := c.CreateVolume(ctx, bake.VolumeSpec{Zone: "eu-west-1a", SizeGiB: 1})
		return err
	},
	"DeleteSnapshot":  func(ctx context.Context, c *Cloud) error { return c.DeleteSnapshot(ctx, "snap-1") },
	"DeleteVolume":    func(ctx context.Context, c *Cloud) error { return c.DeleteVolume(ctx, "vol-1") },
	"DeregisterImage": func(ctx context.Context, c *Cloud) error { return c.Deregister(ctx, "ami-1") },
	"DescribeImages":  func(ctx context.Context, c *Cloud) error { _, err := c.Image(ctx, "ami-1"); return err },
	"DescribeInstances": func(ctx context.Context, c *Cloud) error {
		c.client.access.InstanceID = "i-1"
		_, err := c.Host(ctx)
		return err
	},
	"DescribeSnapshots": func(ctx context.Context, c *Cloud) error { _, err := c.Snapshot(ctx, "snap-1"); return err },
	"DescribeVolumes":   func(ctx context.Context, c *Cloud) error { _, err := c.Volume(ctx, "vol-1"); return err },
	"DetachVolume":      func(ctx context.Context, c *Cloud) error { return c.Detach(ctx, "vol-1", "i-1") },
	"RegisterImage": func(ctx context.Context, c *Cloud) error {
		_, err := c.Register(ctx, bake.ImageSpec{Name: "x", Snapshot: "snap-1", SizeGiB: 1})
		return err
	},
}

// refusedBy does an act that EC2 refuses.
func refusedBy(t *testing.T, operation string, refusal action) (*fake, error) {
	t.Helper()
	s := &fake{actions: map[string]action{
		// resources that are read after some refusals
		"DescribeVolumes": answer("DescribeVolumes", "<volumeSet><item><volumeId>vol-1</volumeId><status>in-use</status>"+
			"<attachmentSet><item><instanceId>i-1</instanceId><device>/dev/sdz</device><status>attached</status></item></attachmentSet></item></volumeSet>"),
		"DescribeImages":    answer("DescribeImages", "<imagesSet/>"),
		"DescribeSnapshots": refuse("InvalidSnapshot.NotFound"),
		operation:           refusal,
	}}
	cloud := faked(t, s, Config{Config: builder.Config{FromScratch: true, RootDeviceName: "xvda"}, ImageConfig: ImageConfig{AMIVirtualizationType: "hvm"}})
	return s, acts[operation](context.Background(), cloud)
}

// The error of every denied operation names the missing permission, and the operation is not
// retried.
func TestEveryDeniedOperation(t *testing.T) {
	for operation := range acts {
		t.Run(operation, func(t *testing.T) {
			s, err := refusedBy(t, operation, refuseWith(http.StatusForbidden, "UnauthorizedOperation"))
			says(t, err, "cannot ", "ec2:"+operation, "do not allow", "AKIATEST", "decode_authorization_messages")
			if n := len(s.made(operation)); n != 1 {
				t.Errorf("asked %d times", n)
			}
		})
	}
}

// Every operation gives advice if the keys are the reason.
func TestEveryOperationWithWrongKeys(t *testing.T) {
	for operation := range acts {
		for code, want := range map[string]string{
			"AuthFailure": "check access_key and secret_key", "InvalidClientTokenId": "check access_key and secret_key",
			"SignatureDoesNotMatch": "check access_key and secret_key", "ExpiredToken": "has expired", "RequestExpired": "clock",
			"OptInRequired": "has not enabled region eu-west-1", "PendingVerification": "verifying the account", "Blocked": "ask its support",
		} {
			t.Run(operation+" "+code, func(t *testing.T) {
				s, err := refusedBy(t, operation, refuseWith(http.StatusUnauthorized, code))
				says(t, err, code, want)
				if n := len(s.made(operation)); n != 1 {
					t.Errorf("asked %d times", n)
				}
			})
		}
	}
}

func TestAdviceOnRefusals(t *testing.T) {
	tests := []struct {
		operation, code string
		want            []string
	}{
		{"CreateVolume", "VolumeLimitExceeded", []string{"eu-west-1a", "EBS storage", "in eu-west-1", "Service Quotas"}},
		{"CreateVolume", "MaxIOPSLimitExceeded", []string{"iops", "in eu-west-1", "Service Quotas"}},
		{"CreateVolume", "InsufficientVolumeCapacity", []string{"root_volume_type"}},
		{"CreateVolume", "InvalidSnapshot.NotFound", []string{"gone", "clean-up"}},
		{"CreateVolume", "UnknownVolumeType", []string{"root_volume_type"}},
		{"CreateVolume", "TagLimitExceeded", []string{"50 tags"}},
		{"CreateSnapshot", "SnapshotLimitExceeded", []string{"vol-1", "snapshots", "Service Quotas"}},
		{"CreateSnapshot", "SnapshotCreationPerVolumeRateExceeded", []string{"vol-1", "15 seconds"}},
		{"CreateSnapshot", "PendingSnapshotLimitExceeded", []string{"vol-1", "build again"}},
		{"CreateSnapshot", "ConcurrentSnapshotLimitExceeded", []string{"vol-1", "build again"}},
		{"CreateSnapshot", "InvalidVolume.NotFound", []string{"vol-1", "gone"}},
		{"CreateSnapshot", "IncorrectState", []string{"vol-1", "ec2:CreateSnapshot"}},
		{"AttachVolume", "AttachmentLimitExceeded", []string{"vol-1", "i-1", "larger instance"}},
		{"AttachVolume", "IncorrectInstanceState", []string{"i-1", "running"}},
		{"AttachVolume", "VolumeInUse", []string{"vol-1", "attached already"}},
		{"AttachVolume", "InvalidVolume.ZoneMismatch", []string{"vol-1", "one zone"}},
		{"DetachVolume", "IncorrectState", []string{"vol-1", "ec2:DetachVolume"}},
		{"DeleteVolume", "VolumeInUse", []string{"vol-1", "still attached", "detach it first"}},
		{"DeleteSnapshot", "InvalidSnapshot.InUse", []string{"snap-1", "an image uses it"}},
		{"RegisterImage", "ResourceLimitExceeded", []string{"snap-1", "in eu-west-1", "Service Quotas"}},
		{"RegisterImage", "InvalidAMIName.Duplicate", []string{`"x"`, "force_deregister"}},
		{"RegisterImage", "InvalidSnapshot.NotFound", []string{"snap-1", "gone"}},
		{"DescribeInstances", "InvalidInstanceID.NotFound", []string{"i-1", "instance_id says", "check region"}},
	}
	for _, tt := range tests {
		t.Run(tt.operation+" "+tt.code, func(t *testing.T) {
			s, err := refusedBy(t, tt.operation, refuse(tt.code))
			says(t, err, tt.want...)
			// an image may for a moment still seem to use a snapshot
			if n := len(s.made(tt.operation)); n != 1 && tt.code != codeSnapshotInUse {
				t.Errorf("asked %d times", n)
			}
		})
	}
}

// Every throttled operation is retried for at least two minutes. Its error says that it was
// throttled and since when.
func TestEveryThrottledOperation(t *testing.T) {
	for operation := range acts {
		t.Run(operation, func(t *testing.T) {
			s, err := refusedBy(t, operation, refuseWith(http.StatusServiceUnavailable, "RequestLimitExceeded"))
			says(t, err, "ec2:"+operation, "throttles", "in eu-west-1", "max_retries", "throttled since 07:00:00 UTC, for 10m0s")
			if n := len(s.made(operation)); n < 20 {
				t.Errorf("asked %d times", n)
			}
		})
	}
}

func TestMaxRetries(t *testing.T) {
	for _, retries := range []int{1, 3} {
		s := &fake{actions: map[string]action{"DescribeVolumes": refuseWith(http.StatusServiceUnavailable, "RequestLimitExceeded")}}
		a := access(serve(t, s).URL)
		a.MaxRetries = retries
		t.Setenv("AWS_MAX_ATTEMPTS", "2")
		_, err := NewCloud(dial(t, a), &Config{}, nil).Volume(context.Background(), "vol-1")
		says(t, err, "RequestLimitExceeded")
		if n := len(s.made("DescribeVolumes")); n != 1+retries {
			t.Errorf("%d attempts with %d retries", n, retries)
		}
	}
}

// A wait ends with the first poll that is denied.
func TestDeniedLookEndsTheWait(t *testing.T) {
	s := &fake{actions: map[string]action{
		"CreateVolume":    answer("CreateVolume", "<volumeId>vol-1</volumeId>"),
		"DescribeVolumes": refuse("UnauthorizedOperation"),
	}}
	cloud := faked(t, s, Config{})
	if _, err := cloud.CreateVolume(context.Background(), bake.VolumeSpec{Zone: "eu-west-1a", SizeGiB: 1}); err != nil {
		t.Fatal(err)
	}
	_, err := cloud.Volume(context.Background(), "vol-1")
	says(t, err, "vol-1", "ec2:DescribeVolumes")
	if n := len(s.made("DescribeVolumes")); n != 1 {
		t.Errorf("looked %d times", n)
	}
}

// TestPermissionNamedInRefusal checks that the permission that a refusal names takes
// precedence over that of the operation.
func TestPermissionNamedInRefusal(t *testing.T) {
	_, err := refusedBy(t, "CreateVolume", denied("User: arn:aws:iam::123456789012:user/ci is not authorized to perform: ec2:CreateTags on resource: x"))
	says(t, err, "do not allow ec2:CreateTags")
}

// denied is an action that is not allowed, in other words.
func denied(message string) action {
	return func(url.Values) (int, string) {
		return http.StatusForbidden, fmt.Sprintf("<Response><Errors><Error><Code>UnauthorizedOperation</Code><Message>%s</Message></Error></Errors>"+
			"<RequestID>r-1</RequestID></Response>", message)
	}
}

func TestDecodedDenial(t *testing.T) {
	document := func(explicit bool) string {
		raw, err := json.Marshal(map[string]any{"allowed": false, "explicitDeny": explicit, "context": map[string]any{
			"principal": map[string]string{"arn": "arn:aws:iam::123456789012:user/ci"},
			"action":    "ec2:CreateVolume", "resource": "arn:aws:ec2:eu-west-1:123456789012:volume/*",
		}})
		if err != nil {
			t.Fatal(err)
		}
		return base64.StdEncoding.EncodeToString(raw)
	}
	const plain = "You are not authorized to perform this operation. "
	tests := map[string]struct {
		decode  bool
		encoded string
		want    []string
		not     string
		asked   int
	}{
		"no policy": {true, document(false), []string{plain, "user/ci may not ec2:CreateVolume on arn:aws:ec2:eu-west-1:123456789012:volume/*: no policy", "r-1"}, document(false), 1},
		"a policy":  {true, document(true), []string{"a policy denies that explicitly"}, document(true), 1},
		"may not be decoded": {true, "unreadable", []string{"UnauthorizedOperation", "Encoded authorization failure message: unreadable",
			"the message cannot be decoded", "do not allow ec2:CreateVolume"}, "may tell more", 1},
		"not asked for":         {false, document(false), []string{document(false), "decode_authorization_messages may tell more"}, "may not", 0},
		"nothing to be decoded": {true, "", []string{plain, "do not allow ec2:CreateVolume"}, "may tell more", 0},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			e := newCredentialEnv(t)
			message := plain
			if tt.encoded != "" {
				message += encodedMark + tt.encoded
			}
			s := &fake{t: t, actions: map[string]action{"CreateVolume": denied(message)}}
			a := access(e.serve(s))
			a.DecodeAuthorizationMessages = tt.decode
			_, err := NewCloud(dial(t, a), &Config{}, nil).CreateVolume(context.Background(), bake.VolumeSpec{Zone: "eu-west-1a", SizeGiB: 1})
			says(t, err, tt.want...)
			if strings.Contains(err.Error(), tt.not) {
				t.Errorf("error %q says %q", err, tt.not)
			}
			if !hasCode(err, "UnauthorizedOperation") {
				t.Errorf("error %q has lost its code", err)
			}
			if len(e.sts) != tt.asked {
				t.Errorf("STS was asked %d times", len(e.sts))
			}
		})
	}
}

// hosts are servers that report which of them received a request, and for which region.
type hosts map[string]*fake

func (h hosts) add(t *testing.T, name string) string {
	t.Helper()
	s := &fake{t: t, metadata: map[string]string{"dynamic/instance-identity/document": document}, actions: map[string]action{
		"DescribeImages": answer("DescribeImages", "<imagesSet/>"),
		"DescribeInstances": answer("DescribeInstances", "<reservationSet><item><ownerId>123456789012</ownerId><instancesSet><item>"+
			"<instanceId>i-0123</instanceId></item></instancesSet></item></reservationSet>"),
		"AssumeRole": refuse("AccessDenied"),
	}}
	h[name] = s
	server := httptest.NewServer(s)
	t.Cleanup(server.Close)
	return server.URL
}

// asked returns the servers that received an action.
func (h hosts) asked(name string) []string {
	var names []string
	for server, s := range h {
		if len(s.made(name)) > 0 {
			names = append(names, server)
		}
	}
	slices.Sort(names)
	return names
}

// TestHostsOfRequests checks the host of each request: EC2 of the build's region, EC2 of another
// region, and STS.
func TestHostsOfRequests(t *testing.T) {
	tests := map[string]struct {
		set              func(url func(name string) string) AccessConfig
		own, other, role string
	}{
		"custom endpoint": {func(url func(string) string) AccessConfig {
			t.Setenv("AWS_ENDPOINT_URL", url("all"))
			return access(url("custom"))
		}, "custom", "all", "all"},
		"endpoint of EC2": {func(url func(string) string) AccessConfig {
			t.Setenv("AWS_ENDPOINT_URL", url("all"))
			t.Setenv("AWS_ENDPOINT_URL_EC2", url("ec2"))
			return access("")
		}, "ec2", "ec2", "all"},
		"endpoint of STS": {func(url func(string) string) AccessConfig {
			t.Setenv("AWS_ENDPOINT_URL", url("all"))
			t.Setenv("AWS_ENDPOINT_URL_STS", url("sts"))
			return access("")
		}, "all", "all", "sts"},
		"custom endpoint beside one of STS": {func(url func(string) string) AccessConfig {
			t.Setenv("AWS_ENDPOINT_URL_EC2", url("ec2"))
			t.Setenv("AWS_ENDPOINT_URL_STS", url("sts"))
			return access(url("custom"))
		}, "custom", "ec2", "sts"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			h := hosts{}
			alone(t)
			t.Setenv("AWS_EC2_METADATA_DISABLED", "false")
			t.Setenv("AWS_EC2_METADATA_SERVICE_ENDPOINT", h.add(t, "metadata"))
			a := tt.set(func(name string) string { return h.add(t, name) })
			client := dial(t, a)
			cloud := NewCloud(client, &Config{}, nil)
			if _, err := cloud.Host(context.Background()); err != nil {
				t.Fatal(err)
			}
			if _, err := cloud.In("us-east-1").Named(context.Background(), "x"); err != nil {
				t.Fatal(err)
			}
			a.AssumeRole = AssumeRoleConfig{RoleARN: role}
			_, err := Dial(context.Background(), a, 0)
			says(t, err, "role "+role)
			for action, want := range map[string]string{"DescribeInstances": tt.own, "DescribeImages": tt.other, "AssumeRole": tt.role} {
				if got := h.asked(action); !slices.Equal(got, []string{want}) {
					t.Errorf("%s was asked of %v, want %s", action, got, want)
				}
			}
		})
	}
}

// A template of an endpoint reaches EC2 of every region.
func TestEndpointTemplate(t *testing.T) {
	alone(t)
	c := dial(t, access("ec2.{region}.example.com"))
	for region, want := range map[string]string{"eu-west-1": "https://ec2.eu-west-1.example.com", "us-east-1": "https://ec2.us-east-1.example.com"} {
		if got := c.endpointOf(region); got != want {
			t.Errorf("EC2 of %s is at %s, want %s", region, got, want)
		}
	}
	_, err := checkEndpoint("custom_endpoint_ec2", "ec2.{zone}.example.com")
	says(t, err, "custom_endpoint_ec2", "{zone}", "{region}")
}
