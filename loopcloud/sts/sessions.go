package sts

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/packer-chroot/packer-plugin-chroot/loopcloud/query"
	"github.com/packer-chroot/packer-plugin-chroot/loopcloud/state"
)

// keys are temporary keys in a response.
type keys struct {
	AccessKeyID     string `xml:"AccessKeyId"`
	SecretAccessKey string
	SessionToken    string
	Expiration      string
}

func keysOf(k state.Key) keys {
	return keys{k.ID, k.Secret, k.Session.Token, k.Session.Until.UTC().Format(time.RFC3339)}
}

type assumed struct {
	Arn           string
	AssumedRoleID string `xml:"AssumedRoleId"`
}

type roleResult struct {
	Credentials     keys
	AssumedRoleUser assumed
	// SubjectFromWebIdentityToken, Audience and Provider are only in responses of
	// AssumeRoleWithWebIdentity.
	SubjectFromWebIdentityToken string `xml:",omitempty"`
	Audience                    string `xml:",omitempty"`
	Provider                    string `xml:",omitempty"`
}

// The shortest and the longest session, its default duration, and the longest session of a role
// that another role assumes.
const (
	minSession     = 15 * time.Minute
	maxSession     = 12 * time.Hour
	defaultSession = time.Hour
	chainedSession = time.Hour
)

// duration takes DurationSeconds from the form.
func (c *call) duration(longest, usual time.Duration) (time.Duration, error) {
	text := c.form.Take("DurationSeconds")
	if text == "" {
		return usual, nil
	}
	seconds, err := strconv.Atoi(text)
	d := time.Duration(seconds) * time.Second
	if err != nil || d < minSession || d > longest {
		return 0, invalid("Value '%s' at 'durationSeconds' is not between %.0f and %.0f", text, minSession.Seconds(), longest.Seconds())
	}
	return d, nil
}

func (c *call) assumeRole() (any, error) {
	if err := c.checkMFA(); err != nil {
		return nil, err
	}
	longest := maxSession
	if c.key.Session != nil {
		longest = chainedSession
	}
	if id := c.form.Take("ExternalId"); id != "" && (!externalID.MatchString(id) || len(id) > 1224) {
		return nil, invalid("Value '%s' at 'externalId' failed to satisfy constraint", id)
	}
	if err := c.checkTags(); err != nil {
		return nil, err
	}
	return c.assume("sts:AssumeRole", c.arn(), longest)
}

var (
	roleARN     = regexp.MustCompile(`^arn:(aws[a-z-]*):iam::(\d{12}):role/([\w+=,.@/-]*/)?([\w+=,.@-]{1,64})$`)
	sessionName = regexp.MustCompile(`^[\w+=,.@-]{2,64}$`)
	externalID  = regexp.MustCompile(`^[\w+=,.@:/-]+$`)
	mfaCode     = regexp.MustCompile(`^\d{6}$`)
)

// assume returns keys of the role that the request names.
func (c *call) assume(permission, who string, longest time.Duration) (*roleResult, error) {
	arn, err := c.require("RoleArn")
	if err != nil {
		return nil, err
	}
	name, err := c.require("RoleSessionName")
	if err != nil {
		return nil, err
	}
	role := roleARN.FindStringSubmatch(arn)
	if role == nil {
		return nil, invalid("%s is invalid", arn)
	}
	if !sessionName.MatchString(name) {
		return nil, invalid("Value '%s' at 'roleSessionName' failed to satisfy constraint", name)
	}
	life, err := c.duration(longest, defaultSession)
	if err != nil {
		return nil, err
	}
	if err := c.checkPolicies(); err != nil {
		return nil, err
	}
	if err := c.done(); err != nil {
		return nil, err
	}
	session := fmt.Sprintf("arn:%s:sts::%s:assumed-role/%s/%s", role[1], role[2], role[4], name)
	key, err := c.st.NewSession(role[2], session, time.Now().Add(life))
	if err != nil {
		return nil, query.Forbid("AccessDenied", "User: %s is not authorized to perform: %s on resource: %s", who, permission, arn)
	}
	parent, _, _ := cutLast(session)
	return &roleResult{Credentials: keysOf(key), AssumedRoleUser: assumed{session, uniqueID("AROA", parent) + ":" + name}}, nil
}

// checkMFA takes the MFA device and its code from the form.
func (c *call) checkMFA() error {
	serial, code := c.form.Take("SerialNumber"), c.form.Take("TokenCode")
	switch {
	case serial == "" && code == "":
		return nil
	case serial == "" || !mfaCode.MatchString(code):
		return invalid("SerialNumber and TokenCode, of six digits, go together")
	case code == "000000":
		return query.Forbid("AccessDenied", "MultiFactorAuthentication failed with invalid MFA one time pass code.")
	}
	return nil
}

// checkTags takes the session tags from the form.
func (c *call) checkTags() error {
	tagged := map[string]bool{}
	for _, key := range c.list("Tags", ".Key") {
		if tagged[key] {
			return query.Refuse("InvalidParameterValue", "Duplicate tag keys found: %s", key)
		}
		tagged[key] = true
	}
	if n := len(c.list("Tags", ".Value")); n != len(tagged) || n > 50 {
		return invalid("%d tag values for %d tag keys, of at most 50", n, len(tagged))
	}
	for _, key := range c.list("TransitiveTagKeys", "") {
		if !tagged[key] {
			return query.Refuse("InvalidParameterValue", "The transitive tag key %s is not one of the tags", key)
		}
	}
	return nil
}

// checkPolicies takes the session policies from the form.
func (c *call) checkPolicies() error {
	if policy := c.form.Take("Policy"); policy != "" && (!json.Valid([]byte(policy)) || len(policy) > 2048) {
		return query.Refuse("MalformedPolicyDocument", "The policy is not in the valid JSON format, or is longer than 2048 characters.")
	}
	for _, arn := range c.list("PolicyArns", ".arn") {
		if !strings.HasPrefix(arn, "arn:aws") || !strings.Contains(arn, ":policy/") {
			return invalid("%s is no ARN of a policy", arn)
		}
	}
	return nil
}

// claims are the claims of a web identity token.
type claims struct {
	Subject  string          `json:"sub"`
	Issuer   string          `json:"iss"`
	Audience json.RawMessage `json:"aud"`
	Expires  int64           `json:"exp"`
}

func (c *call) assumeRoleWithWebIdentity() (any, error) {
	token, err := c.require("WebIdentityToken")
	if err != nil {
		return nil, err
	}
	said, err := readClaims(token)
	if err != nil {
		return nil, err
	}
	result, err := c.assume("sts:AssumeRoleWithWebIdentity", said.Subject, maxSession)
	if err != nil {
		return nil, err
	}
	result.SubjectFromWebIdentityToken, result.Provider = said.Subject, said.Issuer
	result.Audience = strings.Trim(string(said.Audience), `[]"`)
	return result, nil
}

// readClaims parses the payload of a token, and returns an error if the token has expired.
func readClaims(token string) (claims, error) {
	var said claims
	parts := strings.Split(token, ".")
	if len(parts) != 3 {
		return said, query.Refuse("InvalidIdentityToken", "The ID Token provided is not a valid JWT.")
	}
	text, err := base64.RawURLEncoding.DecodeString(parts[1])
	if err != nil || json.Unmarshal(text, &said) != nil || said.Subject == "" {
		return said, query.Refuse("InvalidIdentityToken", "The ID Token provided is not a valid JWT with a subject.")
	}
	if said.Expires != 0 && time.Now().Unix() >= said.Expires {
		return said, query.Refuse("ExpiredTokenException", "Token expired: current date/time must be before the expiration date/time")
	}
	return said, nil
}

func (c *call) sessionToken() (any, error) {
	if c.key.Session != nil {
		return nil, query.Forbid("AccessDenied", "Cannot call GetSessionToken with session credentials")
	}
	if err := c.checkMFA(); err != nil {
		return nil, err
	}
	life, err := c.duration(36*time.Hour, 12*time.Hour)
	if err != nil {
		return nil, err
	}
	if err := c.done(); err != nil {
		return nil, err
	}
	key, err := c.st.NewSession(c.caller.Account, c.arn(), time.Now().Add(life))
	if err != nil {
		return nil, err
	}
	return struct{ Credentials keys }{keysOf(key)}, nil
}
