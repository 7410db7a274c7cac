package amazon

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/hashicorp/vault/api"
)

// vaultKeys are keys that Vault's AWS secrets engine makes when it is asked. They
// end with their lease, and are then asked for anew.
// Source: https://developer.hashicorp.com/vault/api-docs/secret/aws#generate-credentials
type vaultKeys struct {
	engine VaultConfig
	client *api.Client
}

// newVaultKeys finds Vault as its own programs do: by VAULT_ADDR, VAULT_TOKEN or
// ~/.vault-token, VAULT_NAMESPACE, VAULT_CACERT and so on.
func newVaultKeys(engine VaultConfig) (aws.CredentialsProvider, error) {
	client, err := api.NewClient(nil)
	if err != nil {
		return nil, fmt.Errorf("vault_aws_engine: cannot make a client of Vault: %w", err)
	}
	if client.Token() == "" {
		token, err := keptToken()
		if err != nil {
			return nil, fmt.Errorf("vault_aws_engine: no token for Vault: set VAULT_TOKEN, or log in with vault login: %w", err)
		}
		client.SetToken(token)
	}
	return aws.NewCredentialsCache(&vaultKeys{engine: engine, client: client}, renewedEarly), nil
}

// keptToken is the token that vault login keeps.
func keptToken() (string, error) {
	home, err := os.UserHomeDir()
	if err != nil {
		return "", err
	}
	path := filepath.Join(home, ".vault-token")
	token, err := os.ReadFile(path)
	if err != nil {
		return "", err
	}
	if text := strings.TrimSpace(string(token)); text != "" {
		return text, nil
	}
	return "", &fs.PathError{Op: "read", Path: path, Err: errors.New("it is empty")}
}

// path is where the engine makes keys.
func (v *vaultKeys) path() string {
	return strings.Trim(cmp.Or(v.engine.EngineName, "aws"), "/") + "/creds/" + v.engine.Name
}

// Retrieve implements aws.CredentialsProvider.
func (v *vaultKeys) Retrieve(ctx context.Context) (aws.Credentials, error) {
	keys, err := v.ask(ctx)
	if err != nil {
		return aws.Credentials{}, fmt.Errorf("vault_aws_engine: cannot get keys from %s/v1/%s: %w", v.client.Address(), v.path(), err)
	}
	return keys, nil
}

func (v *vaultKeys) ask(ctx context.Context) (aws.Credentials, error) {
	asked := time.Now()
	secret, err := v.client.Logical().ReadWithDataWithContext(ctx, v.path(), v.engine.parameters())
	if err != nil {
		return aws.Credentials{}, err
	}
	if secret == nil {
		return aws.Credentials{}, errors.New("there is no such engine or role: check engine_name and name")
	}
	keys := aws.Credentials{
		AccessKeyID: text(secret, "access_key"), SecretAccessKey: text(secret, "secret_key"),
		SessionToken: cmp.Or(text(secret, "session_token"), text(secret, "security_token")), Source: "Vault",
	}
	if !keys.HasKeys() {
		return aws.Credentials{}, errors.New("the answer has no access_key and secret_key: is it an AWS secrets engine?")
	}
	if lease := time.Duration(secret.LeaseDuration) * time.Second; lease > 0 {
		keys.CanExpire, keys.Expires = true, asked.Add(lease)
	}
	return keys, nil
}

// parameters returns the request's parameters beside the path.
func (e VaultConfig) parameters() map[string][]string {
	parameters := map[string][]string{}
	for name, value := range map[string]string{"role_arn": e.RoleARN, "ttl": e.TTL} {
		if value != "" {
			parameters[name] = []string{value}
		}
	}
	return parameters
}

// text is an entry of a secret, empty if it is none or no text.
func text(secret *api.Secret, key string) string {
	value, _ := secret.Data[key].(string)
	return value
}
