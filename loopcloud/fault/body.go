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

// Connection is the state of a client's connection after a call.
type Connection string

// The states of a connection.
const (
	Open   Connection = "open"   // for the next call
	Closed Connection = "closed" // after an incomplete response
	Reset  Connection = "reset"  // by a TCP reset, after an incomplete response or none
)

// delivery is the way in which a changed response is sent.
type delivery struct {
	// change returns the bytes to send of a body.
	change func(whole []byte) []byte
	// after is the state of the connection after these bytes. If it is not Open, the length of
	// the unchanged body is announced.
	after Connection
}

// deliveries has a row for each change of a body.
var deliveries = map[Body]delivery{
	Garbage:   {garbage, Open},
	Truncated: {firstHalf, Open},
	Cut:       {firstHalf, Closed},
	Corrupt:   {corrupted, Open},
	Empty:     {nothing, Open},
}

// garbage returns bytes that are not valid XML, JSON or UTF-8.
func garbage([]byte) []byte { return []byte("\xff\xfe<\x00}garbage]\x80>{") }

func firstHalf(whole []byte) []byte { return whole[:len(whole)/2] }

// corrupted returns a copy whose last byte is different.
func corrupted(whole []byte) []byte {
	sent := slices.Clone(whole)
	if len(sent) > 0 {
		sent[len(sent)-1] ^= 1
	}
	return sent
}

func nothing([]byte) []byte { return nil }

// bodyWords returns the values of Body in a rule.
func bodyWords() []string {
	var words []string
	for body := range maps.Keys(deliveries) {
		words = append(words, string(body))
	}
	slices.Sort(words)
	return words
}

// Deliver returns the bytes to send of a response's body, the length to announce, and the state of
// the connection after them.
func (b Body) Deliver(whole []byte) (sent []byte, length int, after Connection) {
	d, ok := deliveries[b]
	if !ok {
		return whole, len(whole), Open
	}
	sent = d.change(whole)
	if d.after == Open {
		return sent, len(sent), Open
	}
	return sent, len(whole), d.after
}
