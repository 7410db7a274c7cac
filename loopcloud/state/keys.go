package state

import (
	"crypto/sha256"
	"fmt"
	"regexp"
	"strings"
)

// What EC2 takes for a key: an id, an alias, or the ARN of either. Multi-region
// keys have ids of their own form.
// https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_CreateVolume.html
var (
	keyIDs     = regexp.MustCompile(`^([0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}|mrk-[0-9a-f]{32})$`)
	keyAliases = regexp.MustCompile(`^alias/[a-zA-Z0-9/_-]{1,250}$`)
	keyARNs    = regexp.MustCompile(`^arn:aws[a-z-]*:kms:([a-z0-9-]+):([0-9]{12}):(.+)$`)
)

// DefaultKeyAlias is the alias of the key that AWS manages, which EC2 takes if none is
// given and the account has set no other.
const DefaultKeyAlias = "alias/aws/ebs"

// KeyARN is how a key reads once something is encrypted with it: the ARN that
// the name given stands for in the account and region. An alias has a key behind
// it whose id follows from the alias.
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

// checkKey refuses what cannot name a key.
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
	return refuse(Malformed, "key", name, "it is no key id, no alias and no ARN of either")
}

// KeyExists reports whether a name is that of a key that can be used in a region.
func KeyExists(at Caller, name string) bool { return checkKey(name) == nil && keyExists(at, name) }

// keyExists tells whether a well-formed name is that of a key that can be used
// in a region. There is no key service here, so any key exists, but for those of
// other regions, aliases that begin with missing, and the id of zeros only. EC2
// looks this up after it has answered: what was begun with a key that does not
// exist ends badly.
func keyExists(at Caller, name string) bool {
	if parts := keyARNs.FindStringSubmatch(name); parts != nil {
		if parts[1] != at.Region {
			return false
		}
		name = strings.TrimPrefix(parts[3], "key/")
	}
	return !strings.HasPrefix(name, "alias/missing") && strings.Trim(name, "0-") != ""
}

// noKey is why something failed whose key does not exist, as EC2 says it.
const noKey = "Given key ID is not accessible"

// encryptionKey is the key that something is encrypted with: the account's default
// key for volumes if none was given.
func (o *op) encryptionKey(caller Caller, encrypted bool, key string) (string, error) {
	switch {
	case !encrypted && key != "":
		return "", refuse(InvalidValue, "key", key, "a key is for what is encrypted")
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

// defaultKey is the ARN of the key that the account has set for volumes, or else of the
// key that AWS manages.
func (o *op) defaultKey(caller Caller) string { return KeyARN(caller, o.settings(caller).DefaultKey) }

// Managed reports whether AWS manages a key, given by its ARN: nobody else can use it,
// whatever the account allows.
func Managed(arn string) bool {
	parts := keyARNs.FindStringSubmatch(arn)
	return parts != nil && KeyARN(Caller{parts[2], parts[1]}, DefaultKeyAlias) == KeyARN(Caller{}, arn)
}
