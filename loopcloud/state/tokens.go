package state

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"strings"
	"time"
)

// tokenLife is how long a client token is remembered: EC2 promises at least this
// (EC2 Developer Guide, "Ensuring idempotency").
const tokenLife = 24 * time.Hour

// tokenRecord is what a client token was used for.
type tokenRecord struct {
	Request string // a digest of the parameters
	IDs     []string
	Until   time.Time
}

// ticket is a client token as a request carries it; one without a key is none.
type ticket struct{ key, request string }

// ticketFor makes the ticket of a call. Two requests are the same when their JSON
// is.
func ticketFor(caller Caller, call, token string, request any) ticket {
	if token == "" {
		return ticket{}
	}
	text, err := json.Marshal(request)
	if err != nil {
		panic("a request of this package has no JSON: " + err.Error())
	}
	sum := sha256.Sum256(text)
	key := strings.Join([]string{"token", caller.Account, caller.Region, call, token}, "/")
	return ticket{key: key, request: hex.EncodeToString(sum[:])}
}

// claim makes two requests of one token follow each other.
func (t ticket) claim() claim { return writing(t.key) }

// repeated answers the ids that the ticket's first use made, none if this is the
// first.
func (o *op) repeated(t ticket) ([]string, error) {
	known, ok := o.db.Tokens[t.key]
	if t.key == "" || !ok {
		return nil, nil
	}
	if known.Request != t.request {
		token := t.key[strings.LastIndex(t.key, "/")+1:]
		return nil, refuse(TokenMismatch, "token", token, "it was used with other parameters")
	}
	return known.IDs, nil
}

func (o *op) remember(t ticket, ids ...string) {
	if t.key != "" {
		o.db.Tokens[t.key] = tokenRecord{Request: t.request, IDs: ids, Until: o.now.Add(tokenLife)}
	}
}

func (o *op) forget(t ticket) { delete(o.db.Tokens, t.key) }
