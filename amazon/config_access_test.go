package amazon

import (
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/packer-chroot/packer-plugin-chroot/bake"
	"github.com/packer-chroot/packer-plugin-chroot/builder/buildertest"
)

// prepared returns the configuration of the basic example with other options.
func prepared(t *testing.T, more map[string]any) (*Config, []string) {
	t.Helper()
	var c Config
	warnings, err := c.Prepare(with(t, more))
	if err != nil {
		t.Fatal(err)
	}
	return &c, warnings
}

func TestAllOfAccessReachesTheClient(t *testing.T) {
	t.Setenv("PACKER_CHROOT_PATIENCE", "5m")
	c, _ := prepared(t, map[string]any{
		"token": "session", "profile": "builds", "shared_credentials_file": "/keys", "mfa_code": "123456",
		"region": "eu-west-1", "max_retries": 3, "skip_credential_validation": true,
		"custom_endpoint_ec2": "https://ec2.{region}.example.com", "custom_endpoint_metadata": "http://127.0.0.1:1338",
		"insecure_skip_tls_verify": true, "decode_authorization_messages": true, "instance_id": "i-0123456789abcdef0", "skip_metadata_api_check": true,
		"custom_endpoint_ebs": "https://ebs.{region}.example.com",
		"use_fips_endpoint":   true, "use_dualstack_endpoint": true,
		"assume_role": map[string]any{
			"role_arn": "arn:aws:iam::123456789012:role/build", "duration_seconds": 3600, "external_id": "us", "policy": `{"Version":"2012-10-17"}`,
			"policy_arns": []any{"arn:aws:iam::aws:policy/ReadOnlyAccess"}, "session_name": "packer",
			"tags": map[string]any{"team": "a", "cost": "b"}, "transitive_tag_keys": []any{"team"},
		},
	})
	want := Access{
		AccessKey: "YOUR KEY HERE", SecretKey: "YOUR SECRET KEY HERE", Token: "session",
		Profile: "builds", SharedCredentialsFile: "/keys", MFACode: "123456", Region: "eu-west-1", MaxRetries: 3,
		AssumeRole: &AssumeRole{
			RoleARN: "arn:aws:iam::123456789012:role/build", Duration: time.Hour, ExternalID: "us", Policy: `{"Version":"2012-10-17"}`,
			PolicyARNs: []string{"arn:aws:iam::aws:policy/ReadOnlyAccess"}, SessionName: "packer",
			Tags: map[string]string{"team": "a", "cost": "b"}, TransitiveTagKeys: []string{"team"},
		},
		SkipCredentialValidation: true, Endpoint: "https://ec2.{region}.example.com", MetadataEndpoint: "http://127.0.0.1:1338",
		InsecureSkipTLSVerify: true, DecodeAuthorizationMessages: true, InstanceID: "i-0123456789abcdef0", SkipMetadata: true, UseFIPS: true, UseDualStack: true,
		BlockEndpoint: "https://ebs.{region}.example.com", WaitLimit: 5 * time.Minute,
	}
	if got := c.access(); !reflect.DeepEqual(got, want) {
		t.Errorf("AWS is reached by\n%+v, want\n%+v", got, want)
	}
	buildertest.EveryField(t, want, "Vault", "Direct") // see TestRegionOfADirectBuild
}

func TestVaultReachesTheClient(t *testing.T) {
	c, _ := prepared(t, map[string]any{
		"access_key": nil, "secret_key": nil,
		"vault_aws_engine": map[string]any{"name": "images", "engine_name": "cloud", "role_arn": "arn:aws:iam::123456789012:role/build", "ttl": "1h"},
	})
	want := VaultEngine{Name: "images", EngineName: "cloud", RoleARN: "arn:aws:iam::123456789012:role/build", TTL: "1h"}
	if got := c.access().Vault; got == nil || *got != want {
		t.Errorf("keys come from %+v, want %+v", got, want)
	}
}

func TestNoRoleAndNoVaultUnlessAsked(t *testing.T) {
	c, _ := prepared(t, nil)
	if a := c.access(); a.AssumeRole != nil || a.Vault != nil {
		t.Errorf("AWS is reached by %+v", a)
	}
}

// TestPolling checks that the template takes precedence over the environment. A number of
// attempts alone sets the time limit, and does not make the polling less frequent.
func TestPolling(t *testing.T) {
	fixed := func(interval time.Duration, attempts int) bake.Waits { return bake.Waits{}.Polled(interval, attempts) }
	limited := func(p time.Duration) bake.Waits {
		pace := bake.Pace{Limit: p}
		return bake.Waits{Volume: pace, Attachment: pace, Snapshot: pace, Image: pace, Copy: pace}
	}
	for name, test := range map[string]struct {
		give            map[string]any
		delay, attempts string
		want            bake.Waits
	}{
		"nothing":                 {nil, "", "", bake.Waits{}},
		"both":                    {map[string]any{"delay_seconds": 30, "max_attempts": 50}, "", "", fixed(30*time.Second, 50)},
		"both of the environment": {nil, "7", "9", fixed(7*time.Second, 9)},
		"the template goes first": {map[string]any{"delay_seconds": 30, "max_attempts": 50}, "7", "9", fixed(30*time.Second, 50)},
		"one of each":             {map[string]any{"delay_seconds": 30}, "", "9", fixed(30*time.Second, 9)},
		"a delay":                 {map[string]any{"delay_seconds": 30}, "", "", fixed(30*time.Second, 0)},
		"attempts":                {map[string]any{"max_attempts": 4}, "", "", limited(time.Minute)},
	} {
		t.Run(name, func(t *testing.T) {
			t.Setenv("AWS_POLL_DELAY_SECONDS", test.delay)
			t.Setenv("AWS_MAX_ATTEMPTS", test.attempts)
			more := map[string]any{}
			if test.give != nil {
				more["aws_polling"] = test.give
			}
			c, _ := prepared(t, more)
			if got := c.AWSPolling.waits(); got != test.want {
				t.Errorf("the build waits as\n%+v, want\n%+v", got, test.want)
			}
		})
	}
}

func TestInvalidPollingVariables(t *testing.T) {
	for variable, value := range map[string]string{"AWS_POLL_DELAY_SECONDS": "soon", "AWS_MAX_ATTEMPTS": "-1"} {
		t.Run(variable, func(t *testing.T) {
			t.Setenv(variable, value)
			var c Config
			if _, err := c.Prepare(with(t, nil)); err == nil || !strings.Contains(err.Error(), variable+" is") || !strings.Contains(err.Error(), value) {
				t.Errorf("got %v", err)
			}
		})
	}
}

func TestAccessOptionsThatDoNothingAreWarnings(t *testing.T) {
	for want, give := range map[string]map[string]any{
		"assume_role": {"assume_role": map[string]any{"session_name": "packer"}},
	} {
		if _, warnings := prepared(t, give); len(warnings) != 1 || !strings.Contains(warnings[0], want) {
			t.Errorf("%s: warnings %q", want, warnings)
		}
	}
}
