package state

import (
	"crypto/rand"
	"maps"
	"slices"
	"sync"
	"time"
)

// remembered is how long the keys of a session that has ended are told from
// unknown ones.
const remembered = time.Hour

// sessions are the temporary keys that were given out. They are not kept: with the
// process, they end.
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

// add remembers keys, and forgets those that ended long ago.
func (s *sessions) add(k Key, now time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	maps.DeleteFunc(s.keys, func(_ string, k Key) bool { return now.After(k.Session.Until.Add(remembered)) })
	if s.keys == nil {
		s.keys = map[string]Key{}
	}
	s.keys[k.ID] = k
}

// NewSession gives out keys of an account that are good until a time, by the
// machine's clock. It refuses an account that is none of the cloud's.
func (c *Cloud) NewSession(account, arn string, until time.Time) (Key, error) {
	if !slices.ContainsFunc(c.accounts, func(a Account) bool { return a.ID == account }) {
		return Key{}, refuse(NotFound, "account", account, "there is no such account")
	}
	// Temporary access keys begin with ASIA, and have the length of others:
	// https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_identifiers.html
	k := Key{
		ID: "ASIA" + rand.Text()[:16], Secret: rand.Text() + rand.Text()[:14], Account: account,
		Session: &Session{Token: rand.Text() + rand.Text() + rand.Text(), Until: until, ARN: arn},
	}
	c.sessions.add(k, time.Now())
	return k, nil
}
