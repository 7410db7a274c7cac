package amazon

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/sts"
	ststypes "github.com/aws/aws-sdk-go-v2/service/sts/types"

	"github.com/packer-chroot/packer-plugin-chroot/builder"
	"github.com/packer-chroot/packer-plugin-chroot/loopcloud/state"
)

const staticKeys = "aws_access_key_id = AKIATEST\naws_secret_access_key = not-to-be-printed\n"

const role = "arn:aws:iam::123456789012:role/packer"

// assumedAs is the session of the role.
func assumedAs(session string) string {
	return "arn:aws:sts::123456789012:assumed-role/packer/" + session
}

// noted is the form of a request. It can be read again.
func noted(r *http.Request) url.Values {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return nil
	}
	r.Body = io.NopCloser(bytes.NewReader(body))
	form, err := url.ParseQuery(string(body))
	if err != nil {
		return nil
	}
	return form
}

// sources are the sources of credentials: the required files and variables, the options, and
// the user of the requests to EC2, empty for the owner of the keys.
var sources = map[string]struct {
	set func(*credentialEnv) AccessConfig
	arn string
}{
	"access_key": {func(*credentialEnv) AccessConfig {
		return AccessConfig{AccessKey: "AKIATEST", SecretKey: "not-to-be-printed"}
	}, ""},
	"token": {func(e *credentialEnv) AccessConfig {
		key := e.session("mine")
		return AccessConfig{AccessKey: key.ID, SecretKey: key.Secret, Token: key.Session.Token}
	}, "mine"},
	"profile": {func(e *credentialEnv) AccessConfig {
		e.file("credentials", "[build]\n"+staticKeys)
		return AccessConfig{Profile: "build"}
	}, ""},
	"profile before environment": {func(e *credentialEnv) AccessConfig {
		key := e.session("mine")
		e.file("credentials", fmt.Sprintf("[build]\naws_access_key_id=%s\naws_secret_access_key=%s\naws_session_token=%s\n", key.ID, key.Secret, key.Session.Token))
		e.env(map[string]string{"AWS_ACCESS_KEY_ID": "AKIATEST", "AWS_SECRET_ACCESS_KEY": "not-to-be-printed"})
		return AccessConfig{Profile: "build"}
	}, "mine"},
	"AWS_PROFILE in AWS_CONFIG_FILE": {func(e *credentialEnv) AccessConfig {
		e.file("config", "[profile build]\n"+staticKeys)
		e.Setenv("AWS_PROFILE", "build")
		return AccessConfig{}
	}, ""},
	"shared_credentials_file": {func(e *credentialEnv) AccessConfig {
		return AccessConfig{SharedCredentialsFile: e.file("mine", "[default]\n"+staticKeys)}
	}, ""},
	"shared_credentials_file at home": {func(e *credentialEnv) AccessConfig {
		e.file("mine", "[default]\n"+staticKeys)
		return AccessConfig{SharedCredentialsFile: "~/mine"}
	}, ""},
	"AWS_SHARED_CREDENTIALS_FILE": {func(e *credentialEnv) AccessConfig {
		e.Setenv("AWS_SHARED_CREDENTIALS_FILE", e.file("mine", "[default]\n"+staticKeys))
		return AccessConfig{}
	}, ""},
	"environment": {func(e *credentialEnv) AccessConfig {
		key := e.session("mine")
		e.env(map[string]string{"AWS_ACCESS_KEY_ID": key.ID, "AWS_SECRET_ACCESS_KEY": key.Secret, "AWS_SESSION_TOKEN": key.Session.Token})
		return AccessConfig{}
	}, "mine"},
	"credential_process": {func(e *credentialEnv) AccessConfig {
		key := e.session("process")
		script := e.file("script", fmt.Sprintf("#!/bin/sh\necho '{\"Version\":1,\"AccessKeyId\":%q,\"SecretAccessKey\":%q,\"SessionToken\":%q}'\n",
			key.ID, key.Secret, key.Session.Token))
		e.file("config", "[default]\ncredential_process = "+script+"\n")
		return AccessConfig{}
	}, "process"},
	"source_profile": {func(e *credentialEnv) AccessConfig {
		e.file("credentials", "[keys]\n"+staticKeys)
		e.file("config", "[profile first]\nrole_arn="+role+"\nrole_session_name=first\nsource_profile=keys\n"+
			"[profile second]\nrole_arn="+role+"\nrole_session_name=second\nsource_profile=first\nexternal_id=e1\n")
		return AccessConfig{Profile: "second"}
	}, assumedAs("second")},
	"mfa_code": {func(e *credentialEnv) AccessConfig {
		e.file("credentials", "[keys]\n"+staticKeys)
		e.file("config", "[profile build]\nrole_arn="+role+"\nrole_session_name=me\nsource_profile=keys\nmfa_serial=GAHT12345678\n")
		return AccessConfig{Profile: "build", MFACode: "123456"}
	}, assumedAs("me")},
	"web identity of the environment": {func(e *credentialEnv) AccessConfig {
		e.env(map[string]string{"AWS_WEB_IDENTITY_TOKEN_FILE": e.file("jwt", jwt()), "AWS_ROLE_ARN": role, "AWS_ROLE_SESSION_NAME": "pod"})
		return AccessConfig{}
	}, assumedAs("pod")},
	"web identity of a profile": {func(e *credentialEnv) AccessConfig {
		e.file("config", "[profile pod]\nrole_arn="+role+"\nrole_session_name=pod\nweb_identity_token_file="+e.file("jwt", jwt())+"\n")
		return AccessConfig{Profile: "pod"}
	}, assumedAs("pod")},
	"container": {func(e *credentialEnv) AccessConfig {
		e.env(map[string]string{"AWS_CONTAINER_CREDENTIALS_FULL_URI": e.url + "/container", "AWS_CONTAINER_AUTHORIZATION_TOKEN": "Bearer word"})
		return AccessConfig{}
	}, "container"},
	"pod identity": {func(e *credentialEnv) AccessConfig {
		e.env(map[string]string{
			"AWS_CONTAINER_CREDENTIALS_FULL_URI":     e.url + "/container",
			"AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE": e.file("word", "Bearer word"),
		})
		return AccessConfig{}
	}, "container"},
	"instance role": {func(*credentialEnv) AccessConfig { return AccessConfig{} }, "arn:aws:sts::123456789012:assumed-role/loopcloud/HOST"},
	"instance role, endpoint by an option": {func(e *credentialEnv) AccessConfig {
		e.Setenv("AWS_EC2_METADATA_SERVICE_ENDPOINT", "http://127.0.0.1:1")
		return AccessConfig{CustomEndpointMetadata: e.url}
	}, "arn:aws:sts::123456789012:assumed-role/loopcloud/HOST"},
	"instance role, and no proxy to it": {func(e *credentialEnv) AccessConfig {
		e.Setenv("HTTP_PROXY", "http://127.0.0.1:1")
		return AccessConfig{}
	}, "arn:aws:sts::123456789012:assumed-role/loopcloud/HOST"},
	"credential_source": {func(e *credentialEnv) AccessConfig {
		e.file("config", "[default]\nrole_arn="+role+"\nrole_session_name=me\ncredential_source=Ec2InstanceMetadata\n")
		return AccessConfig{}
	}, assumedAs("me")},
	"assume_role": {func(*credentialEnv) AccessConfig {
		return AccessConfig{AccessKey: "AKIATEST", SecretKey: "not-to-be-printed", AssumeRole: AssumeRoleConfig{RoleARN: role}}
	}, assumedAs("packer-amazon-chroot")},
	"assume_role of a role": {func(*credentialEnv) AccessConfig {
		return AccessConfig{AssumeRole: AssumeRoleConfig{RoleARN: role, SessionName: "me"}}
	}, assumedAs("me")},
	"vault": {func(e *credentialEnv) AccessConfig {
		e.env(map[string]string{"VAULT_ADDR": e.url, "VAULT_TOKEN": "t0ken"})
		return AccessConfig{VaultAWSEngine: VaultConfig{Name: "build"}}
	}, "vault"},
	"vault, logged in": {func(e *credentialEnv) AccessConfig {
		e.Setenv("VAULT_ADDR", e.url)
		e.file(".vault-token", "t0ken\n")
		return AccessConfig{VaultAWSEngine: VaultConfig{Name: "build", EngineName: "teams/aws"}}
	}, "vault"},
	"vault and assume_role": {func(e *credentialEnv) AccessConfig {
		e.env(map[string]string{"VAULT_ADDR": e.url, "VAULT_TOKEN": "t0ken"})
		return AccessConfig{VaultAWSEngine: VaultConfig{Name: "build"}, AssumeRole: AssumeRoleConfig{RoleARN: role, SessionName: "me"}}
	}, assumedAs("me")},
}

func TestSourcesOfCredentials(t *testing.T) {
	for name, source := range sources {
		t.Run(name, func(t *testing.T) {
			e := newCredentialEnv(t)
			client := dial(t, source.set(e))
			host, err := NewCloud(client, &Config{}, nil).Host(context.Background())
			if err != nil {
				t.Fatal(err)
			}
			if host.Account != state.DefaultAccount {
				t.Errorf("the host is account %q's", host.Account)
			}
			key, known := e.st.Key(e.key)
			if !known || client.keys.known().AccessKeyID != e.key {
				t.Fatalf("EC2 was asked with %q, and told is %q", e.key, client.keys.known().AccessKeyID)
			}
			arn := ""
			if key.Session != nil {
				arn = strings.ReplaceAll(key.Session.ARN, string(host.ID), "HOST")
			}
			if arn != source.arn {
				t.Errorf("EC2 was asked as %q, want %q", arn, source.arn)
			}
			e.hides(key)
		})
	}
}

// hides checks that no secret of a key can appear in a log.
func (e *credentialEnv) hides(key state.Key) {
	e.Helper()
	secrets := []string{key.Secret}
	if key.Session != nil {
		secrets = append(secrets, key.Session.Token)
	}
	for _, secret := range secrets {
		if shown := builder.Redact(secret); strings.Contains(shown, secret) {
			e.Errorf("a log would show %s", shown)
		}
	}
}

func TestFieldsOfAssumeRole(t *testing.T) {
	e := newCredentialEnv(t)
	dial(t, AccessConfig{AccessKey: "AKIATEST", SecretKey: "not-to-be-printed", AssumeRole: AssumeRoleConfig{
		RoleARN: role, DurationSeconds: 1200, ExternalID: "e1", Policy: `{"Statement":[]}`,
		PolicyARNs: []string{"arn:aws:iam::aws:policy/ReadOnlyAccess"}, SessionName: "me",
		Tags: map[string]string{"team": "images", "cost": "7"}, TransitiveTagKeys: []string{"team"},
	}})
	if len(e.sts) != 1 {
		t.Fatalf("STS was asked %d times: %v", len(e.sts), e.sts)
	}
	for name, want := range map[string]string{
		"Action": "AssumeRole", "RoleArn": role, "DurationSeconds": "1200", "ExternalId": "e1", "Policy": `{"Statement":[]}`,
		"PolicyArns.member.1.arn": "arn:aws:iam::aws:policy/ReadOnlyAccess", "RoleSessionName": "me",
		"Tags.member.1.Key": "cost", "Tags.member.1.Value": "7", "Tags.member.2.Key": "team", "Tags.member.2.Value": "images",
		"TransitiveTagKeys.member.1": "team",
	} {
		if got := e.sts[0].Get(name); got != want {
			t.Errorf("%s is %q, want %q", name, got, want)
		}
	}
}

// TestUnusedMFACode checks that an MFA code that is not needed is reported.
func TestUnusedMFACode(t *testing.T) {
	for name, unused := range map[string]bool{"mfa_code": false, "instance role": true} {
		e := newCredentialEnv(t)
		a := sources[name].set(e)
		a.MFACode = "123456"
		var said []string
		log := func(format string, args ...any) { said = append(said, fmt.Sprintf(format, args...)) }
		if _, err := (&Config{AccessConfig: a}).connect(t.Context(), log); err != nil {
			t.Fatal(err)
		}
		if got := strings.Contains(strings.Join(said, ""), "mfa_code is not used"); got != unused {
			t.Errorf("%s: the build says %q", name, said)
		}
	}
}

// A session that a code began is long, as it cannot be renewed.
func TestMFASession(t *testing.T) {
	e := newCredentialEnv(t)
	dial(t, sources["mfa_code"].set(e))
	if got := e.sts[0]; got.Get("SerialNumber") != "GAHT12345678" || got.Get("TokenCode") != "123456" || got.Get("DurationSeconds") != "3600" {
		t.Errorf("STS was asked %v", got)
	}
}

// Keys that are valid for half a minute only are not used: the request may arrive after their
// expiry, or the clock of this machine may be slow.
func TestKeysAreRenewedBeforeTheirEnd(t *testing.T) {
	ends := map[string]func(*credentialEnv, time.Time) (keys aws.CredentialsProvider, asked func() int){
		"assume_role": func(_ *credentialEnv, end time.Time) (aws.CredentialsProvider, func() int) {
			asked := 0
			keys := AssumeRoleConfig{RoleARN: role}.provider(assumeRole(func(context.Context, *sts.AssumeRoleInput, ...func(*sts.Options)) (*sts.AssumeRoleOutput, error) {
				asked++
				return &sts.AssumeRoleOutput{
					AssumedRoleUser: &ststypes.AssumedRoleUser{Arn: aws.String(assumedAs("me"))},
					Credentials: &ststypes.Credentials{
						AccessKeyId: aws.String("ASIATEST"), SecretAccessKey: aws.String("s"), SessionToken: aws.String("t"), Expiration: aws.Time(end),
					},
				}, nil
			}))
			return keys, func() int { return asked }
		},
		"the chain": func(e *credentialEnv, end time.Time) (aws.CredentialsProvider, func() int) {
			count := filepath.Join(e.home, "asked")
			script := e.file("script", fmt.Sprintf("#!/bin/sh\nprintf x >>%s\necho '{\"Version\":1,\"AccessKeyId\":\"a\",\"SecretAccessKey\":\"s\",\"Expiration\":%q}'\n",
				count, end.Format(time.RFC3339)))
			e.file("config", "[default]\ncredential_process = "+script+"\n")
			client := dial(t, AccessConfig{})
			return client.keys, func() int { text, _ := os.ReadFile(count); return len(text) }
		},
	}
	for name, keysUntil := range ends {
		for left, anew := range map[time.Duration]bool{30 * time.Second: true, 10 * time.Minute: false} {
			t.Run(fmt.Sprintf("%s, %v", name, left), func(t *testing.T) {
				keys, asked := keysUntil(newCredentialEnv(t), time.Now().Add(left))
				before := max(asked(), 1) // Dial has sent one request already
				for range 2 {
					if _, err := keys.Retrieve(context.Background()); err != nil {
						t.Fatal(err)
					}
				}
				if got := asked(); (got > before) != anew {
					t.Errorf("keys were asked for %d times, %d of them before", got, before)
				}
			})
		}
	}
}

func TestVaultRequests(t *testing.T) {
	e := newCredentialEnv(t)
	e.env(map[string]string{"VAULT_ADDR": e.url, "VAULT_TOKEN": "t0ken", "VAULT_NAMESPACE": "teams/images"})
	dial(t, AccessConfig{VaultAWSEngine: VaultConfig{Name: "build", RoleARN: role, TTL: "900s"}})
	if len(e.vault) != 1 {
		t.Fatalf("Vault was asked %d times", len(e.vault))
	}
	asked := e.vault[0]
	if query := asked.URL.Query(); query.Get("role_arn") != role || query.Get("ttl") != "900s" || asked.Header.Get("X-Vault-Namespace") != "teams/images" {
		t.Errorf("Vault was asked %s with %v", asked.URL, asked.Header)
	}
}

func TestSourcesThatFail(t *testing.T) {
	keys := AccessConfig{AccessKey: "AKIATEST", SecretKey: "not-to-be-printed"}
	vault := func(e *credentialEnv, engine VaultConfig) AccessConfig {
		e.env(map[string]string{"VAULT_ADDR": e.url, "VAULT_TOKEN": "t0ken", "VAULT_MAX_RETRIES": "0"})
		return AccessConfig{VaultAWSEngine: engine}
	}
	tests := map[string]struct {
		set  func(*credentialEnv) AccessConfig
		want []string
	}{
		"vault without a token": {func(*credentialEnv) AccessConfig { return AccessConfig{VaultAWSEngine: VaultConfig{Name: "build"}} }, []string{"vault_aws_engine", "VAULT_TOKEN", ".vault-token"}},
		"vault with an empty token": {func(e *credentialEnv) AccessConfig {
			e.file(".vault-token", "\n")
			return AccessConfig{VaultAWSEngine: VaultConfig{Name: "build"}}
		}, []string{"VAULT_TOKEN", "empty"}},
		"vault with another token": {func(e *credentialEnv) AccessConfig {
			a := vault(e, VaultConfig{Name: "build"})
			e.Setenv("VAULT_TOKEN", "another")
			return a
		}, []string{"vault_aws_engine", "aws/creds/build", "permission denied"}},
		"vault without such a role": {func(e *credentialEnv) AccessConfig { return vault(e, VaultConfig{Name: "other"}) }, []string{"aws/creds/other", "engine_name and name"}},
		"another engine of vault":   {func(e *credentialEnv) AccessConfig { return vault(e, VaultConfig{Name: "build", EngineName: "kv"}) }, []string{"kv/creds/build", "access_key"}},
		"no metadata and no keys": {func(*credentialEnv) AccessConfig {
			return AccessConfig{SkipMetadataAPICheck: true, InstanceID: "i-0123456789abcdef0", Region: "eu-west-1"}
		}, []string{"no AWS credentials"}},
		"no metadata and no region": {func(e *credentialEnv) AccessConfig {
			a := keys
			e.Setenv("AWS_REGION", "")
			a.SkipMetadataAPICheck, a.InstanceID = true, "i-0123456789abcdef0"
			return a
		}, []string{"no region", "set region"}},
		"no shared_credentials_file": {func(*credentialEnv) AccessConfig { return AccessConfig{SharedCredentialsFile: "/nonexistent/x"} }, []string{"shared_credentials_file", "/nonexistent/x"}},
		"no such profile":            {func(*credentialEnv) AccessConfig { return AccessConfig{Profile: "nobody"} }, []string{`no profile "nobody"`, "shared_credentials_file", "AWS_CONFIG_FILE"}},
		"role that may not be assumed": {func(*credentialEnv) AccessConfig {
			a := keys
			a.AssumeRole = AssumeRoleConfig{RoleARN: "arn:aws:iam::000000000000:role/r"}
			return a
		}, []string{"role arn:aws:iam::000000000000:role/r", "sts:AssumeRole", "trust policy"}},
		"secret of nobody": {func(*credentialEnv) AccessConfig {
			return AccessConfig{AccessKey: "AKIATEST", SecretKey: "x", AssumeRole: AssumeRoleConfig{RoleARN: role}}
		}, []string{"AKIATEST", "access_key and secret_key"}},
		"mfa_serial without a code": {func(e *credentialEnv) AccessConfig { a := sources["mfa_code"].set(e); a.MFACode = ""; return a }, []string{"mfa_serial", "mfa_code"}},
		"wrong code":                {func(e *credentialEnv) AccessConfig { a := sources["mfa_code"].set(e); a.MFACode = "000000"; return a }, []string{"MultiFactorAuthentication", "mfa_code"}},
		"web identity that is none": {func(e *credentialEnv) AccessConfig {
			a := sources["web identity of the environment"].set(e)
			e.file("jwt", "nonsense")
			return a
		}, []string{"InvalidIdentityToken", "AWS_WEB_IDENTITY_TOKEN_FILE"}},
		"container that does not know us": {func(e *credentialEnv) AccessConfig {
			e.Setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", e.url+"/container")
			return AccessConfig{}
		}, []string{"no AWS credentials", "no word"}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			e := newCredentialEnv(t)
			_, err := Dial(context.Background(), tt.set(e), 0)
			says(t, err, tt.want...)
		})
	}
}

// Without the validation, it is the first request that fails.
func TestSkipCredentialValidation(t *testing.T) {
	e := newCredentialEnv(t)
	e.Setenv("AWS_EC2_METADATA_DISABLED", "true")
	if _, err := Dial(context.Background(), AccessConfig{}, 0); err == nil {
		t.Error("no credentials, and no error")
	}
	client, err := Dial(context.Background(), AccessConfig{SkipCredentialValidation: true, InstanceID: "i-0123"}, 0)
	if err != nil {
		t.Fatal(err)
	}
	_, err = NewCloud(client, &Config{}, nil).Host(context.Background())
	says(t, err, "read instance i-0123", "IMDS")
}
