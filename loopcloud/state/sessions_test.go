package state_test

import (
	"errors"
	"testing"
	"time"

	"github.com/packer-chroot/packer-plugin-chroot/loopcloud/state"
	"github.com/packer-chroot/packer-plugin-chroot/loopcloud/state/statetest"
	"github.com/packer-chroot/packer-plugin-chroot/testdir"
)

func TestSessions(t *testing.T) {
	c, err := state.Open(state.Config{Dir: testdir.New(t), Disks: statetest.NewDisks()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	})
	session := func(until time.Duration) state.Key {
		t.Helper()
		k, err := c.NewSession(state.DefaultAccount, "arn", time.Now().Add(until))
		if err != nil {
			t.Fatal(err)
		}
		return k
	}
	long, ended, forgotten := session(time.Hour), session(-time.Minute), session(-2*time.Hour)
	if long.ID == ended.ID || long.Secret == ended.Secret || long.Session.Token == ended.Session.Token {
		t.Errorf("two sessions are alike: %+v and %+v", long, ended)
	}
	session(time.Hour)
	for _, test := range []struct {
		key   state.Key
		known bool
	}{{long, true}, {ended, true}, {forgotten, false}} {
		if got, known := c.Key(test.key.ID); known != test.known || known && got != test.key {
			t.Errorf("%s: got %+v, %v", test.key.ID, got, known)
		}
	}
	var refusal *state.Error
	if _, err := c.NewSession("000000000000", "arn", time.Now()); !errors.As(err, &refusal) || refusal.Kind != state.NotFound {
		t.Errorf("an account of nobody: %v", err)
	}
}
