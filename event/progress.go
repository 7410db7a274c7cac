package event

import (
	"fmt"
	"time"
)

// Waiting is a wait that goes on. It is reported at growing intervals.
type Waiting struct {
	// What names the resource. State is its state; empty if it has none.
	What, State string
	// Percent is the progress; 0 if there is none.
	Percent int
	// Took is the time since the wait began.
	Took time.Duration
}

// String implements Event.
func (w Waiting) String() string {
	text := "waiting for " + w.What + ", " + w.Took.Round(time.Second).String()
	if w.State != "" {
		text += ": " + w.State
	}
	if w.Percent > 0 {
		text += fmt.Sprintf(", %d percent", w.Percent) // Packer's log treats "%" as a verb
	}
	return line(text)
}

// Direction is the direction of a Transfer.
type Direction string

// The directions of transfers.
const (
	ToImage    Direction = "to the image"
	FromImage  Direction = "from the image"
	FromSource Direction = "from the source snapshot"
	ToSnapshot Direction = "to the new snapshot"
)

// Transfer is data that was copied.
type Transfer struct {
	Direction Direction
	// What names a file; empty for blocks.
	What  string
	Bytes int64
	Took  time.Duration
	Err   error
}

// String implements Event.
func (t Transfer) String() string {
	text := fmt.Sprintf("transfer %s: ", t.Direction)
	if t.What != "" {
		text += line(t.What) + ", "
	}
	return text + fmt.Sprintf("%d bytes", t.Bytes) + end(t.Took, t.Err)
}

// Pause is a pause in which the user was waited for.
type Pause struct {
	// After names the step before.
	After string
	Took  time.Duration
}

// String implements Event.
func (p Pause) String() string { return "pause after " + p.After + end(p.Took, nil) }
