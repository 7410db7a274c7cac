package fault

import (
	"maps"
	"slices"
)

// Body is the change to the body of a successful response.
type Body string

// The changes of a body.
const (
	Whole     Body = ""
	Garbage   Body = "garbage"   // bytes that are neither XML nor JSON
	Truncated Body = "truncated" // the first half, with a matching length
	Cut       Body = "cut"       // the first half, then the connection is closed
	Corrupt   Body = "corrupt"   // one bit of the last byte is changed
	Empty     Body = "empty"
)

// garbage is not valid XML, JSON or UTF-8.
const garbage = "\xff\xfe<\x00}garbage]\x80>{"

// bodies has a function for each change that returns the bytes to send.
var bodies = map[Body]func(whole []byte) []byte{
	Garbage:   func([]byte) []byte { return []byte(garbage) },
	Truncated: firstHalf,
	Cut:       firstHalf,
	Corrupt:   corrupted,
	Empty:     func([]byte) []byte { return nil },
}

func firstHalf(whole []byte) []byte { return whole[:len(whole)/2] }

// corrupted returns a copy whose last byte is different.
func corrupted(whole []byte) []byte {
	sent := slices.Clone(whole)
	if len(sent) > 0 {
		sent[len(sent)-1] ^= 1
	}
	return sent
}

// bodyWords returns the values of Body in a rule.
func bodyWords() []string {
	var words []string
	for body := range maps.Keys(bodies) {
		words = append(words, string(body))
	}
	slices.Sort(words)
	return words
}

// Change returns the bytes to send of a response's body, and the length to announce.
func (b Body) Change(whole []byte) (sent []byte, length int) {
	change, ok := bodies[b]
	if !ok {
		return whole, len(whole)
	}
	sent = change(whole)
	if b == Cut {
		return sent, len(whole)
	}
	return sent, len(sent)
}
