package osc

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// profile is one entry of the configuration file that Outscale's tools share: an
// object of profiles by name.
// Source: https://docs.outscale.com/en/userguide/Installing-and-Configuring-Osc-Cli.html
type profile struct {
	AccessKey     string `json:"access_key"`
	SecretKey     string `json:"secret_key"`
	Region        string `json:"region"`
	RegionName    string `json:"region_name"` // what osc-cli calls it
	Default       bool   `json:"default"`
	TLSSkipVerify bool   `json:"tls_skip_verify"`
	CertPath      string `json:"x509_client_cert"`
	KeyPath       string `json:"x509_client_key"`
	CertBase64    string `json:"x509_client_cert_b64"`
	KeyBase64     string `json:"x509_client_key_b64"`
	Endpoints     struct {
		API string `json:"api"`
	} `json:"endpoints"`
}

// defaultProfileName is the profile that is used when none is named, unless
// another one says that it is the default.
const defaultProfileName = "default"

// readProfile finds a profile in the configuration file. It must be there.
func readProfile(name string) (origin, error) {
	path, err := configFile()
	if err != nil {
		return origin{}, fmt.Errorf("cannot find profile %q: %w", name, err)
	}
	all, err := readProfiles(path)
	if err != nil {
		return origin{}, fmt.Errorf("cannot read profile %q: %w", name, err)
	}
	p, ok := all[name]
	if !ok {
		return origin{}, fmt.Errorf("%s has no profile %q: it has %s", path, name,
			strings.Join(slices.Sorted(maps.Keys(all)), ", "))
	}
	return p.origin(name), nil
}

// defaultProfile returns the profile that the environment names, by OSC_PROFILE or
// OSC_CONFIG_FILE, or else the default one of the usual file if that exists. The usual file is
// read only if keys or region are not known yet: a user with both does not mean the rest of a
// file.
func defaultProfile(known Access) (origin, error) {
	if name := os.Getenv("OSC_PROFILE"); name != "" {
		return readProfile(name)
	}
	named := os.Getenv("OSC_CONFIG_FILE") != ""
	if !named && known.AccessKey != "" && known.Region != "" {
		return origin{}, nil
	}
	path, err := configFile()
	if err != nil {
		return origin{}, nil //nolint:nilerr // a user without a home has no profile
	}
	all, err := readProfiles(path)
	switch {
	case errors.Is(err, fs.ErrNotExist) && !named:
		return origin{}, nil
	case err != nil:
		return origin{}, err
	}
	name := defaultProfileName
	for _, other := range slices.Sorted(maps.Keys(all)) {
		if all[other].Default {
			name = other
			break
		}
	}
	return all[name].origin(name), nil
}

// configFile is the path of the configuration file.
func configFile() (string, error) {
	if path := os.Getenv("OSC_CONFIG_FILE"); path != "" {
		return path, nil
	}
	home, err := os.UserHomeDir()
	if err != nil {
		return "", err
	}
	return filepath.Join(home, ".osc", "config.json"), nil
}

func readProfiles(path string) (map[string]profile, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	all, err := decodeProfiles(text)
	if err != nil {
		return nil, fmt.Errorf("%s is no configuration of Outscale's tools: %w", path, err)
	}
	return all, nil
}

func decodeProfiles(text []byte) (map[string]profile, error) {
	var all map[string]profile
	if err := json.Unmarshal(text, &all); err != nil {
		return nil, err
	}
	return all, nil
}

func (p profile) origin(name string) origin {
	if p.Region == "" {
		p.Region = p.RegionName
	}
	return origin{
		accessKey: fmt.Sprintf("access_key of profile %q", name),
		secretKey: fmt.Sprintf("secret_key of profile %q", name),
		region:    fmt.Sprintf("profile %q", name),
		access: Access{
			AccessKey: p.AccessKey, SecretKey: p.SecretKey, Region: p.Region, Endpoint: p.Endpoints.API,
			Certificate: Certificate{
				CertPath: p.CertPath, KeyPath: p.KeyPath, CertBase64: p.CertBase64, KeyBase64: p.KeyBase64,
			},
			InsecureSkipTLSVerify: p.TLSSkipVerify,
		},
	}
}
