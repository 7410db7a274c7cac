package state

import (
	"crypto/sha256"
	"fmt"
	"regexp"
	"strings"
)

// The forms of a key that EC2 accepts: an ID, an alias, or the ARN of either. Multi-region keys
// have another form of ID.
// https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_CreateVolume.html
var (
	keyIDs     = regexp.MustCompile(`^([0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}|mrk-[0-9a-f]{32})$`)
	keyAliases = regexp.MustCompile(`^alias/[a-zA-Z0-9/_-]{1,250}$`)
	keyARNs    = regexp.MustCompile(`^arn:aws[a-z-]*:kms:([a-z0-9-]+):([0-9]{12}):(.+)$`)
)

// DefaultKeyAlias is the alias of the key that AWS manages for EBS. It is the default if the
// account has not set another key.
const DefaultKeyAlias = "alias/aws/ebs"

// KeyARN returns the ARN of a key in an account and region. For an alias it is the ARN of a key
// whose ID follows from the alias.
func KeyARN(at Caller, name string) string {
	if parts := keyARNs.FindStringSubmatch(name); parts != nil {
		at, name = Caller{parts[2], parts[1]}, parts[3]
	}
	id, isARN := strings.CutPrefix(name, "key/")
	if !isARN && keyAliases.MatchString(name) {
		sum := sha256.Sum256([]byte(at.Account + " " + at.Region + " " + name))
		id = fmt.Sprintf("%x-%x-%x-%x-%x", sum[:4], sum[4:6], sum[6:8], sum[8:10], sum[10:16])
	}
	return "arn:" + Partition(at.Region) + ":kms:" + at.Region + ":" + at.Account + ":key/" + id
}

// checkKey returns an error if a text cannot name a key.
func checkKey(name string) error {
	within := name
	if parts := keyARNs.FindStringSubmatch(name); parts != nil {
		within = parts[3]
		if id, ok := strings.CutPrefix(within, "key/"); ok {
			within = id
		} else if !strings.HasPrefix(within, "alias/") {
			within = ""
		}
	}
	if keyIDs.MatchString(within) || keyAliases.MatchString(within) {
		return nil
	}
	return refuse(Malformed, "key", name, "it is not a key ID, an alias or the ARN of either")
}

// KeyExists reports whether a key with this name can be used in a region.
func KeyExists(at Caller, name string) bool { return checkKey(name) == nil && keyExists(at, name) }

// keyExists reports whether a well-formed name is a key that can be used in a region. There is no
// key service: every key exists, except those of other regions, aliases that begin with missing,
// and the ID of zeros only. EC2 checks this after its response: an operation with a key that does
// not exist fails later.
func keyExists(at Caller, name string) bool {
	if parts := keyARNs.FindStringSubmatch(name); parts != nil {
		if parts[1] != at.Region {
			return false
		}
		name = strings.TrimPrefix(parts[3], "key/")
	}
	return !strings.HasPrefix(name, "alias/missing") && strings.Trim(name, "0-") != ""
}

// noKey is EC2's reason for a failure because of a key that does not exist.
const noKey = "Given key ID is not accessible"

// encryptionKey returns the key to encrypt with: the given one, or the account's default key for
// volumes.
func (o *op) encryptionKey(caller Caller, encrypted bool, key string) (string, error) {
	switch {
	case !encrypted && key != "":
		return "", refuse(InvalidValue, "key", key, "a key requires encryption")
	case !encrypted:
		return "", nil
	case key == "":
		return o.defaultKey(caller), nil
	}
	if err := checkKey(key); err != nil {
		return "", err
	}
	return KeyARN(caller, key), nil
}

// defaultKey returns the ARN of the account's default key for volumes, or of the key that AWS
// manages.
func (o *op) defaultKey(caller Caller) string { return KeyARN(caller, o.settings(caller).DefaultKey) }

// Managed reports whether AWS manages the key with this ARN. Other accounts cannot use such a
// key.
func Managed(arn string) bool {
	parts := keyARNs.FindStringSubmatch(arn)
	return parts != nil && KeyARN(Caller{parts[2], parts[1]}, DefaultKeyAlias) == KeyARN(Caller{}, arn)
}
