package sts

import (
	"crypto/sha256"
	"encoding/base32"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"strings"

	"github.com/packer-chroot/packer-plugin-chroot/loopcloud/query"
	"github.com/packer-chroot/packer-plugin-chroot/loopcloud/state"
)

// action is one operation of the API.
type action struct {
	do func(*call) (any, error)
	// unsigned means that the request needs no signature.
	unsigned bool
}

// actions are the implemented actions of the API, by name.
var actions = map[string]action{
	"AssumeRole":                 {do: (*call).assumeRole},
	"AssumeRoleWithWebIdentity":  {do: (*call).assumeRoleWithWebIdentity, unsigned: true},
	"DecodeAuthorizationMessage": {do: (*call).decodeMessage},
	"GetCallerIdentity":          {do: (*call).callerIdentity},
	"GetSessionToken":            {do: (*call).sessionToken},
}

// call is one request with its remaining parameters.
type call struct {
	st     *state.Cloud
	caller state.Caller
	key    state.Key
	form   query.Form
}

// require takes a required parameter from the form.
func (c *call) require(name string) (string, error) {
	value := c.form.Take(name)
	if value == "" {
		return "", invalid("Value null at '%s' failed to satisfy constraint: Member must not be null", name)
	}
	return value, nil
}

// list takes a list of texts from the form or, with a field, a list of structures with that
// field.
func (c *call) list(name, field string) []string {
	var values []string
	for n := 1; ; n++ {
		full := fmt.Sprintf("%s.member.%d%s", name, n, field)
		if _, ok := c.form[full]; !ok {
			return values
		}
		values = append(values, c.form.Take(full))
	}
}

// done returns an error if parameters remain in the form.
func (c *call) done() error { return c.form.Done(validation) }

// arn returns the ARN of the caller. A key that is not temporary belongs to a user.
func (c *call) arn() string {
	if c.key.Session != nil {
		return c.key.Session.ARN
	}
	return fmt.Sprintf("arn:%s:iam::%s:user/loopcloud", state.Partition(c.caller.Region), c.caller.Account)
}

// uniqueID returns an ID such as AIDA… or AROA… that follows from a name.
func uniqueID(prefix, name string) string {
	sum := sha256.Sum256([]byte(name))
	return prefix + base32.StdEncoding.EncodeToString(sum[:])[:17]
}

func (c *call) callerIdentity() (any, error) {
	arn := c.arn()
	id := uniqueID("AIDA", arn)
	if role, session, ok := cutLast(arn); ok && c.key.Session != nil {
		id = uniqueID("AROA", role) + ":" + session
	}
	return struct {
		Arn     string
		UserID  string `xml:"UserId"`
		Account string
	}{arn, id, c.caller.Account}, c.done()
}

// cutLast cuts an ARN at its last slash.
func cutLast(arn string) (before, after string, ok bool) {
	i := strings.LastIndexByte(arn, '/')
	if i < 0 {
		return arn, "", false
	}
	return arn[:i], arn[i+1:], true
}

func (c *call) decodeMessage() (any, error) {
	encoded, err := c.require("EncodedMessage")
	if err != nil {
		return nil, err
	}
	text, err := base64.StdEncoding.DecodeString(encoded)
	if err != nil || !json.Valid(text) {
		return nil, query.Refuse("InvalidAuthorizationMessageException", "The message was not encoded by this cloud")
	}
	return struct{ DecodedMessage string }{string(text)}, c.done()
}
