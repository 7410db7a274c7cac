package state

import (
	"crypto/rand"
	"maps"
	"slices"
	"sync"
	"time"
)

// remembered is how long expired keys are distinguished from unknown ones.
const remembered = time.Hour

// sessions holds the temporary keys. They are not saved.
type sessions struct {
	mu   sync.Mutex
	keys map[string]Key
}

func (s *sessions) find(id string) (Key, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	k, ok := s.keys[id]
	return k, ok
}

// add adds a key and removes those that expired long ago.
func (s *sessions) add(k Key, now time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	maps.DeleteFunc(s.keys, func(_ string, k Key) bool { return now.After(k.Session.Until.Add(remembered)) })
	if s.keys == nil {
		s.keys = map[string]Key{}
	}
	s.keys[k.ID] = k
}

// NewSession returns temporary keys of an account that expire at a time by the machine's clock.
// It returns an error if the account does not exist.
func (c *Cloud) NewSession(account, arn string, until time.Time) (Key, error) {
	if !slices.ContainsFunc(c.accounts, func(a Account) bool { return a.ID == account }) {
		return Key{}, refuse(NotFound, "account", account, "there is no such account")
	}
	// Temporary access keys begin with ASIA and are as long as others:
	// https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_identifiers.html
	k := Key{
		ID: "ASIA" + rand.Text()[:16], Secret: rand.Text() + rand.Text()[:14], Account: account,
		Session: &Session{Token: rand.Text() + rand.Text() + rand.Text(), Until: until, ARN: arn},
	}
	c.sessions.add(k, time.Now())
	return k, nil
}
