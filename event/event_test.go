package event

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"
)

func TestEventStrings(t *testing.T) {
	failed := errors.New("no\nway")
	for _, test := range []struct {
		event Event
		want  string
	}{
		{Call{Service: "EC2", Action: "CreateVolume", RequestID: "r-1", Attempt: 1, Took: 35 * time.Millisecond}, "call EC2 CreateVolume: attempt 1, request r-1, 35ms, ok"},
		{Call{Service: "OAPI", Action: "ReadVms", Attempt: 2, Pause: time.Second, Err: failed}, "call OAPI ReadVms: attempt 2 after 1s, 0s, failed: no way"},
		{Requests{Service: "EBS", Action: "PutSnapshotBlock", Made: 100, Failed: 2, Bytes: 98 << 19}, "requests EBS PutSnapshotBlock: 100, 2 failed, 49.0 MiB"},
		{Wait{What: "snapshot snap-1", State: "pending", Percent: 7, Looks: 2, Took: time.Second}, "wait for snapshot snap-1: pending (7 percent), look 2, 1s"},
		{Wait{What: "volume vol-1", State: "available", Looks: 3, Done: true}, "wait for volume vol-1: available, look 3, 0s, done"},
		{Wait{What: "volume vol-1", Looks: 1, Err: failed}, "wait for volume vol-1: , look 1, 0s, failed: no way"},
		{Mount{Source: "/dev/xvdf1", Target: "/mnt", Type: "ext4", Options: []string{"ro", "noatime"}}, "mount /dev/xvdf1 on /mnt, type ext4, options ro,noatime, 0s, ok"},
		{Step{Name: "mount root", Took: time.Second}, "step mount root, 1s, ok"},
		{Mount{Target: "/mnt", Err: failed}, "unmount /mnt, 0s, failed: no way"},
		{Command{Place: "chroot", Line: `A='se cret' B="se\"cret" C=secret sh -c x`, Status: 3}, "command in the chroot: A=… B=… C=… sh -c x: status 3, 0s, ok"},
	} {
		if got := test.event.String(); got != test.want {
			t.Errorf("%q, want %q", got, test.want)
		}
	}
	if long := (Command{Line: strings.Repeat("é", 5000)}).String(); len(long) > 2*longest || strings.Contains(long, "\n") {
		t.Errorf("%d bytes", len(long))
	}
}

type heard []string

func (h *heard) Hear(e Event) { *h = append(*h, e.String()) }

func TestListen(t *testing.T) {
	var h heard
	Emit(context.Background(), Wait{}) // nobody listens
	ctx := Listen(context.Background(), &h)
	Emit(ctx, Mount{Target: "/mnt"})
	if len(h) != 1 || Heard(context.Background()) || !Heard(ctx) {
		t.Errorf("heard %q", h)
	}
}
