package ebsdirect

import "sync"

// mostTokens bounds the memory of tokens: each has about 200 bytes. It is enough for all blocks of 64
// GiB.
const mostTokens = 128 << 10

// tokens are the tokens by which blocks are read. Some may be missing: they are requested again.
type tokens struct {
	mu  sync.Mutex
	all map[int64]string
}

// put keeps a token. If there are too many, it drops any other.
func (t *tokens) put(index int64, token string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.all == nil {
		t.all = map[int64]string{}
	}
	t.all[index] = token
	for other := range t.all {
		if len(t.all) <= mostTokens {
			break
		}
		if other != index {
			delete(t.all, other)
		}
	}
}

func (t *tokens) get(index int64) (token string, ok bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	token, ok = t.all[index]
	return token, ok
}

// drop forgets a token, unless another one has replaced it.
func (t *tokens) drop(index int64, token string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.all[index] == token {
		delete(t.all, index)
	}
}
