package state

import (
	"cmp"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"strings"
)

// The prefixes of IDs, by the resource that an Error names.
const (
	volumePrefix   = "vol"
	snapshotPrefix = "snap"
	imagePrefix    = "ami"
	vmPrefix       = "i"
)

// randomID is the default of Config.NewID.
func randomID(prefix string, digits int) string {
	raw := make([]byte, (digits+1)/2)
	rand.Read(raw) // never fails: crypto/rand ends the program instead
	return prefix + "-" + hex.EncodeToString(raw)[:digits]
}

// freshID returns a new ID that no resource has.
func (c *Cloud) freshID(prefix string, digits int) string {
	if digits == 0 {
		digits = 17
	}
	for {
		if id := c.newID(prefix, digits); !c.db.has(id) {
			return id
		}
	}
}

func (db *database) has(id string) bool {
	return db.VMs[id] != nil || db.Volumes[id] != nil || db.Snapshots[id] != nil || db.Images[id] != nil
}

// checkID returns an error if a text is not an ID: a prefix and eight to seventeen hexadecimal
// digits.
func checkID(prefix, resource, id string) error {
	if id == "" {
		return refuse(Missing, resource, id, "no %s ID was given", resource)
	}
	digits, ok := strings.CutPrefix(id, prefix+"-")
	if !ok || len(digits) < 8 || len(digits) > 17 || strings.Trim(digits, "0123456789abcdef") != "" {
		return refuse(Malformed, resource, id, "it must be %s- and 8 or 17 hexadecimal digits", prefix)
	}
	return nil
}

// resourceOf returns the resource and the prefix of an ID, "" if the prefix is unknown.
func resourceOf(id string) (resource, prefix string) {
	prefix, _, _ = strings.Cut(id, "-")
	switch prefix {
	case volumePrefix:
		return "volume", prefix
	case snapshotPrefix:
		return "snapshot", prefix
	case imagePrefix:
		return "image", prefix
	case vmPrefix:
		return "instance", prefix
	}
	return "", prefix
}

func compareIDs(a, b string) int { return cmp.Compare(a, b) }

func refuse(kind Kind, resource, id, format string, args ...any) error {
	return &Error{Kind: kind, Resource: resource, ID: id, Message: fmt.Sprintf(format, args...)}
}

// inUse returns the refusal of a call because another resource uses this one.
func inUse(resource, id, by, format string, args ...any) error {
	return &Error{Kind: InUse, Resource: resource, ID: id, By: by, Message: fmt.Sprintf(format, args...)}
}

func dryRun(resource, id string) error {
	return refuse(DryRun, resource, id, "the request would have succeeded")
}

// found returns the record of an ID. It returns an error if the ID is malformed or the caller
// cannot see the resource.
func found[R record](table map[string]R, prefix, resource, id string, visible func(R) bool) (R, error) {
	var none R
	if err := checkID(prefix, resource, id); err != nil {
		return none, err
	}
	r, ok := table[id]
	if !ok || !visible(r) {
		return none, refuse(NotFound, resource, id, "it does not exist")
	}
	return r, nil
}

// owned returns an error if the caller can see a resource but does not own it.
func owned[R record](r R, caller Caller, resource string) error {
	if r.scope().Account != caller.Account {
		return refuse(NotAllowed, resource, r.key(), "account %s is not its owner", caller.Account)
	}
	return nil
}
