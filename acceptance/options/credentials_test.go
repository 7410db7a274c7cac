package options

import (
	"encoding/base64"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/sts"

	"github.com/packer-chroot/packer-plugin-chroot/acceptance/harness"
	"github.com/packer-chroot/packer-plugin-chroot/sdkhttp"
)

const role = "arn:aws:iam::123456789012:role/builders/packer"

// without returns an environment without some variables.
func without(env []string, names ...string) []string {
	return slices.DeleteFunc(slices.Clone(env), func(entry string) bool {
		name, _, _ := strings.Cut(entry, "=")
		return slices.Contains(names, name)
	})
}

// session returns temporary keys for the box's key.
func session(b *harness.Box) (id, secretKey, token string) {
	b.Helper()
	c := sts.New(sts.Options{
		BaseEndpoint: aws.String(b.Endpoint), Region: harness.Region, HTTPClient: sdkhttp.Safe(awshttp.NewBuildableClient()),
		Credentials: credentials.NewStaticCredentialsProvider(harness.KeyID, harness.Secret, ""),
	})
	out, err := c.GetSessionToken(b.Context(), nil)
	if err != nil {
		b.Fatal(err)
	}
	k := out.Credentials
	return aws.ToString(k.AccessKeyId), aws.ToString(k.SecretAccessKey), aws.ToString(k.SessionToken)
}

// made reports whether an action was called and succeeded.
func made(calls []harness.Call, dialect, action string) bool {
	return slices.ContainsFunc(calls, func(c harness.Call) bool {
		return c.Dialect == dialect && c.Action == action && c.Status < 300
	})
}

// TestSourcesOfCredentials builds with keys from each place, and none elsewhere.
func TestSourcesOfCredentials(t *testing.T) {
	harness.NeedRoot(t)
	t.Parallel()
	type source struct {
		name string
		// set prepares the box, and returns options and environment.
		set func(b *harness.Box) (options map[string]any, env []string)
		// asked is the call that obtains the keys, dialect and action, or empty if there is none.
		asked [2]string
	}
	keys := "[keys]\naws_access_key_id=" + harness.KeyID + "\naws_secret_access_key=" + harness.Secret + "\n"
	for _, s := range []source{
		{"profile", func(b *harness.Box) (map[string]any, []string) {
			return map[string]any{"profile": "keys", "shared_credentials_file": b.Write("home/mine", keys)}, nil
		}, [2]string{}},
		{"profile that assumes a role with MFA", func(b *harness.Box) (map[string]any, []string) {
			b.Write("home/.aws/credentials", keys)
			b.Write("home/.aws/config", "[profile build]\nrole_arn="+role+"\nsource_profile=keys\nmfa_serial=GAHT12345678\n")
			return map[string]any{"profile": "build", "mfa_code": "123456"}, nil
		}, [2]string{"sts", "AssumeRole"}},
		{"assume_role", func(*harness.Box) (map[string]any, []string) {
			return map[string]any{"access_key": harness.KeyID, "secret_key": harness.Secret, "assume_role": map[string]any{
				"role_arn": role, "duration_seconds": 900, "external_id": "e1", "session_name": "acceptance",
				"policy": "{}", "policy_arns": []string{"arn:aws:iam::aws:policy/PowerUserAccess"},
				"tags": map[string]string{"team": "images"}, "transitive_tag_keys": []string{"team"},
			}}, nil
		}, [2]string{"sts", "AssumeRole"}},
		{"token", func(b *harness.Box) (map[string]any, []string) {
			id, secretKey, token := session(b)
			return map[string]any{"access_key": id, "secret_key": secretKey, "token": token}, nil
		}, [2]string{}},
		{"instance role", func(*harness.Box) (map[string]any, []string) { return nil, nil }, [2]string{"imds", "meta-data/iam/security-credentials/loopcloud"}},
		{"web identity", func(b *harness.Box) (map[string]any, []string) {
			token := "e30." + base64.RawURLEncoding.EncodeToString([]byte(`{"sub":"pod"}`)) + ".c2ln"
			return nil, []string{"AWS_ROLE_ARN=" + role, "AWS_WEB_IDENTITY_TOKEN_FILE=" + b.Write("home/jwt", token)}
		}, [2]string{"sts", "AssumeRoleWithWebIdentity"}},
	} {
		t.Run(s.name, func(t *testing.T) {
			t.Parallel()
			b := harness.New(t)
			options, env := s.set(b)
			b.Env = append(without(b.Env, "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"), append(env, "PACKER_LOG=1")...)
			b.Calls()
			out := b.Build(b.Template(harness.Flavors[0].Basic(options), harness.Shell("true")))
			if strings.Contains(out, harness.Secret) {
				t.Error("the log tells the secret key")
			}
			if calls := b.Calls(); s.asked[0] != "" && !made(calls, s.asked[0], s.asked[1]) {
				t.Errorf("nobody asked for %v: %v", s.asked, calls)
			}
		})
	}
}

// TestInstanceID builds where the metadata cannot be asked.
func TestInstanceID(t *testing.T) {
	harness.NeedRoot(t)
	t.Parallel()
	b := harness.New(t)
	id := host(b)
	b.Env = append(b.Env, "AWS_EC2_METADATA_SERVICE_ENDPOINT=http://127.0.0.1:1")
	b.Fails(b.Template(harness.Flavors[0].Basic(nil), harness.Shell("true")), "no metadata service", "instance_id", "AWS_EC2_METADATA_SERVICE_ENDPOINT")
	b.Build(b.Template(harness.Flavors[0].Basic(map[string]any{"instance_id": id}), harness.Shell("true")))
}

// TestSkipMetadata checks that the metadata service gets no request, and that the missing facts are required as
// options.
func TestSkipMetadata(t *testing.T) {
	harness.NeedRoot(t)
	t.Parallel()
	b := harness.New(t)
	id := host(b)
	b.Calls()
	skipping := harness.O{"skip_metadata_api_check": true, "instance_id": id}
	b.Fails(b.Template(harness.Flavors[0].Basic(harness.O{"skip_metadata_api_check": true}), harness.Shell("true")), "instance_id is required with skip_metadata_api_check")
	b.Build(b.Template(harness.Flavors[0].Basic(skipping), harness.Shell("true")))
	before := b.Inventory()
	whole := b.Env
	b.Env = without(whole, "AWS_REGION")
	b.Fails(b.Template(harness.Flavors[0].Basic(skipping), harness.Shell("true")), "no region is given")
	b.Env = without(whole, "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")
	b.Fails(b.Template(harness.Flavors[0].Basic(skipping), harness.Shell("true")), "no AWS credentials")
	b.Unchanged(before)
	for _, c := range b.Calls() {
		if c.Dialect == "imds" {
			t.Errorf("the metadata were asked for %s", c.Action)
		}
	}
}

// host is the id of this machine, as the metadata have it.
func host(b *harness.Box) string {
	b.Helper()
	resp, err := http.Get(b.Endpoint + "/latest/meta-data/instance-id")
	if err != nil {
		b.Fatal(err)
	}
	defer resp.Body.Close()
	var id strings.Builder
	if err := resp.Write(&id); err != nil {
		b.Fatal(err)
	}
	_, body, _ := strings.Cut(id.String(), "\r\n\r\n")
	return strings.TrimSpace(body)
}

// TestDecodeAuthorizationMessages builds where volumes may not be created, and is told why.
func TestDecodeAuthorizationMessages(t *testing.T) {
	harness.NeedRoot(t)
	t.Parallel()
	b := harness.New(t)
	before := b.Inventory()
	refuse(b, "CreateVolume", encodedRefusal)
	template := b.Template(harness.Flavors[0].Basic(map[string]any{"decode_authorization_messages": true}), harness.Shell("true"))
	b.Fails(template, "user/ci may not ec2:CreateVolume", "a policy denies that explicitly", "do not allow ec2:CreateVolume")
	b.Unchanged(before)
}
