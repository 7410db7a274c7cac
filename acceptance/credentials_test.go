package acceptance

import (
	"encoding/base64"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/sts"
)

const role = "arn:aws:iam::123456789012:role/builders/packer"

// without is an environment that lacks variables.
func without(env []string, names ...string) []string {
	return slices.DeleteFunc(slices.Clone(env), func(entry string) bool {
		name, _, _ := strings.Cut(entry, "=")
		return slices.Contains(names, name)
	})
}

// session is temporary keys of the box's key.
func (b *box) session() (id, secretKey, token string) {
	b.t.Helper()
	c := sts.New(sts.Options{
		BaseEndpoint: aws.String(b.endpoint), Region: region,
		Credentials: credentials.NewStaticCredentialsProvider(keyID, secret, ""),
	})
	out, err := c.GetSessionToken(b.t.Context(), nil)
	if err != nil {
		b.t.Fatal(err)
	}
	k := out.Credentials
	return aws.ToString(k.AccessKeyId), aws.ToString(k.SecretAccessKey), aws.ToString(k.SessionToken)
}

// made tells whether an action is among the calls, and succeeded.
func made(calls []call, dialect, action string) bool {
	return slices.ContainsFunc(calls, func(c call) bool {
		return c.Dialect == dialect && c.Action == action && c.Status < 300
	})
}

// TestSourcesOfCredentials builds with keys from each place, and none elsewhere.
func TestSourcesOfCredentials(t *testing.T) {
	needRoot(t)
	t.Parallel()
	type source struct {
		name string
		// set prepares the box, and answers options and more environment.
		set func(b *box) (options map[string]any, env []string)
		// asked is what has to be asked for the keys, dialect and action; empty if
		// nothing has to be.
		asked [2]string
	}
	keys := "[keys]\naws_access_key_id=" + keyID + "\naws_secret_access_key=" + secret + "\n"
	for _, s := range []source{
		{"profile", func(b *box) (map[string]any, []string) {
			return map[string]any{"profile": "keys", "shared_credentials_file": b.write("home/mine", keys)}, nil
		}, [2]string{}},
		{"profile that assumes a role with MFA", func(b *box) (map[string]any, []string) {
			b.write("home/.aws/credentials", keys)
			b.write("home/.aws/config", "[profile build]\nrole_arn="+role+"\nsource_profile=keys\nmfa_serial=GAHT12345678\n")
			return map[string]any{"profile": "build", "mfa_code": "123456"}, nil
		}, [2]string{"sts", "AssumeRole"}},
		{"assume_role", func(*box) (map[string]any, []string) {
			return map[string]any{"access_key": keyID, "secret_key": secret, "assume_role": map[string]any{
				"role_arn": role, "duration_seconds": 900, "external_id": "e1", "session_name": "acceptance",
				"policy": "{}", "policy_arns": []string{"arn:aws:iam::aws:policy/PowerUserAccess"},
				"tags": map[string]string{"team": "images"}, "transitive_tag_keys": []string{"team"},
			}}, nil
		}, [2]string{"sts", "AssumeRole"}},
		{"token", func(b *box) (map[string]any, []string) {
			id, secretKey, token := b.session()
			return map[string]any{"access_key": id, "secret_key": secretKey, "token": token}, nil
		}, [2]string{}},
		{"instance role", func(*box) (map[string]any, []string) { return nil, nil }, [2]string{"imds", "meta-data/iam/security-credentials/loopcloud"}},
		{"web identity", func(b *box) (map[string]any, []string) {
			token := "e30." + base64.RawURLEncoding.EncodeToString([]byte(`{"sub":"pod"}`)) + ".c2ln"
			return nil, []string{"AWS_ROLE_ARN=" + role, "AWS_WEB_IDENTITY_TOKEN_FILE=" + b.write("home/jwt", token)}
		}, [2]string{"sts", "AssumeRoleWithWebIdentity"}},
	} {
		t.Run(s.name, func(t *testing.T) {
			t.Parallel()
			b := newBox(t)
			options, env := s.set(b)
			b.env = append(without(b.env, "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"), append(env, "PACKER_LOG=1")...)
			b.calls()
			out := b.build(b.template(flavors[0].basic(options), shell("true")))
			if strings.Contains(out, secret) {
				t.Error("the log tells the secret key")
			}
			if calls := b.calls(); s.asked[0] != "" && !made(calls, s.asked[0], s.asked[1]) {
				t.Errorf("nobody asked for %v: %v", s.asked, calls)
			}
		})
	}
}

// TestInstanceID builds where the metadata cannot be asked.
func TestInstanceID(t *testing.T) {
	needRoot(t)
	t.Parallel()
	b := newBox(t)
	id := b.host()
	b.env = append(b.env, "AWS_EC2_METADATA_SERVICE_ENDPOINT=http://127.0.0.1:1")
	b.fails(b.template(flavors[0].basic(nil), shell("true")), "no metadata service", "instance_id", "AWS_EC2_METADATA_SERVICE_ENDPOINT")
	b.build(b.template(flavors[0].basic(map[string]any{"instance_id": id}), shell("true")))
}

// TestSkipMetadata: the metadata are asked for nothing, and what they would have said
// is wanted elsewhere.
func TestSkipMetadata(t *testing.T) {
	needRoot(t)
	t.Parallel()
	b := newBox(t)
	id := b.host()
	b.calls()
	skipping := o{"skip_metadata_api_check": true, "instance_id": id}
	b.fails(b.template(flavors[0].basic(o{"skip_metadata_api_check": true}), shell("true")), "instance_id is required with skip_metadata_api_check")
	b.build(b.template(flavors[0].basic(skipping), shell("true")))
	before := b.inventory()
	whole := b.env
	b.env = without(whole, "AWS_REGION")
	b.fails(b.template(flavors[0].basic(skipping), shell("true")), "no region is given")
	b.env = without(whole, "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")
	b.fails(b.template(flavors[0].basic(skipping), shell("true")), "no AWS credentials")
	b.unchanged(before)
	for _, c := range b.calls() {
		if c.Dialect == "imds" {
			t.Errorf("the metadata were asked for %s", c.Action)
		}
	}
}

// host is the id of this machine, as the metadata have it.
func (b *box) host() string {
	b.t.Helper()
	resp, err := http.Get(b.endpoint + "/latest/meta-data/instance-id")
	if err != nil {
		b.t.Fatal(err)
	}
	defer resp.Body.Close()
	var id strings.Builder
	if err := resp.Write(&id); err != nil {
		b.t.Fatal(err)
	}
	_, body, _ := strings.Cut(id.String(), "\r\n\r\n")
	return strings.TrimSpace(body)
}

// TestDecodedDenial builds where volumes may not be created, and is told why.
func TestDecodedDenial(t *testing.T) {
	needRoot(t)
	t.Parallel()
	b := newBox(t)
	before := b.inventory()
	b.refuse("CreateVolume", encodedRefusal)
	template := b.template(flavors[0].basic(map[string]any{"decode_authorization_messages": true}), shell("true"))
	b.fails(template, "user/ci may not ec2:CreateVolume", "a policy denies that explicitly", "do not allow ec2:CreateVolume")
	b.unchanged(before)
}
