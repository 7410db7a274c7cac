package state

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"strings"
	"time"
)

// tokenLife is how long a client token is remembered, the minimum that EC2 documents (EC2
// Developer Guide, "Ensuring idempotency").
const tokenLife = 24 * time.Hour

// tokenRecord is the use of a client token.
type tokenRecord struct {
	Request string // a digest of the parameters
	IDs     []string
	Until   time.Time
}

// clientToken is the client token of a request. Without a key, the request has none.
type clientToken struct{ key, request string }

// clientTokenOf returns the client token of a call. Requests with the same JSON are the same
// request.
func clientTokenOf(caller Caller, call, token string, request any) clientToken {
	if token == "" {
		return clientToken{}
	}
	text, err := json.Marshal(request)
	if err != nil {
		panic("a request of this package has no JSON: " + err.Error())
	}
	sum := sha256.Sum256(text)
	key := strings.Join([]string{"token", caller.Account, caller.Region, call, token}, "/")
	return clientToken{key: key, request: hex.EncodeToString(sum[:])}
}

// claim returns a claim that makes requests with the same token wait for each other.
func (t clientToken) claim() claim { return writing(t.key) }

// repeated returns the IDs that the first request with the token created, none if this is the
// first.
func (o *op) repeated(t clientToken) ([]string, error) {
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

func (o *op) remember(t clientToken, ids ...string) {
	if t.key != "" {
		o.db.Tokens[t.key] = tokenRecord{Request: t.request, IDs: ids, Until: o.now.Add(tokenLife)}
	}
}

func (o *op) forget(t clientToken) { delete(o.db.Tokens, t.key) }
