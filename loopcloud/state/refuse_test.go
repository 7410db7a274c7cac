package state_test

import (
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/packer-chroot/packer-plugin-chroot/loopcloud/state"
)

func TestVolumeRefusals(t *testing.T) {
	c := newTestCloud(t, state.Instant())
	s := c.snapshot().ID
	for name, test := range map[string]struct {
		req      state.VolumeRequest
		kind     state.Kind
		resource string
	}{
		"no size":            {state.VolumeRequest{Zone: zone}, state.Missing, "size"},
		"no zone":            {state.VolumeRequest{SizeGiB: 1}, state.Missing, "zone"},
		"zone elsewhere":     {state.VolumeRequest{Zone: "us-east-1a", SizeGiB: 1}, state.NotFound, "zone"},
		"snapshot unknown":   {state.VolumeRequest{Zone: zone, SnapshotID: "snap-01234567"}, state.NotFound, "snapshot"},
		"snapshot malformed": {state.VolumeRequest{Zone: zone, SnapshotID: "snap-x"}, state.Malformed, "snapshot"},
		"below snapshot":     {state.VolumeRequest{Zone: zone, SnapshotID: s, SizeGiB: 7}, state.InvalidValue, "size"},
		"type unknown":       {state.VolumeRequest{Zone: zone, SizeGiB: 1, Type: "gp9"}, state.InvalidValue, "volume"},
		"too large":          {state.VolumeRequest{Zone: zone, SizeGiB: 20000}, state.InvalidValue, "size"},
		"negative":           {state.VolumeRequest{Zone: zone, SizeGiB: -1}, state.InvalidValue, "size"},
		"st1 small":          {state.VolumeRequest{Zone: zone, SizeGiB: 8, Type: "st1"}, state.InvalidValue, "size"},
		"gp2 iops":           {state.VolumeRequest{Zone: zone, SizeGiB: 8, IOPS: 100}, state.Unsuited, "iops"},
		"io1 no iops":        {state.VolumeRequest{Zone: zone, SizeGiB: 8, Type: "io1"}, state.Missing, "iops"},
		"io1 ratio":          {state.VolumeRequest{Zone: zone, SizeGiB: 4, Type: "io1", IOPS: 1201}, state.InvalidValue, "iops"},
		"gp3 few iops":       {state.VolumeRequest{Zone: zone, SizeGiB: 8, Type: "gp3", IOPS: 2999}, state.InvalidValue, "iops"},
		"gp3 ratio":          {state.VolumeRequest{Zone: zone, SizeGiB: 8, Type: "gp3", IOPS: 4001}, state.InvalidValue, "iops"},
		"gp3 throughput":     {state.VolumeRequest{Zone: zone, SizeGiB: 8, Type: "gp3", Throughput: 751}, state.InvalidValue, "throughput"},
		"gp2 throughput":     {state.VolumeRequest{Zone: zone, SizeGiB: 8, Throughput: 125}, state.Unsuited, "throughput"},
		"key unencrypted":    {state.VolumeRequest{Zone: zone, SizeGiB: 8, KMSKeyID: "k"}, state.InvalidValue, "key"},
		"tag without key":    {state.VolumeRequest{Zone: zone, SizeGiB: 8, Tags: map[string]string{"": "x"}}, state.InvalidValue, "tag"},
		"dry run":            {state.VolumeRequest{Zone: zone, SizeGiB: 8, DryRun: true}, state.DryRun, "volume"},
	} {
		t.Run(name, func(t *testing.T) {
			before := len(c.Volumes(mine))
			_, err := c.CreateVolume(mine, test.req)
			wantRefusal(t, err, test.kind, test.resource)
			if after := len(c.Volumes(mine)); after != before {
				t.Errorf("it was made all the same")
			}
		})
	}
	_, err := c.CreateVolume(state.Caller{Account: me, Region: "mars-1"}, state.VolumeRequest{Zone: "mars-1a", SizeGiB: 1})
	wantRefusal(t, err, state.NotFound, "region")
}

func TestVolumeTypes(t *testing.T) {
	c := newTestCloud(t, state.Instant())
	for _, test := range []struct {
		req              state.VolumeRequest
		kind             string
		iops, throughput int64
	}{
		{state.VolumeRequest{SizeGiB: 8}, "gp2", 100, 0},
		{state.VolumeRequest{SizeGiB: 1000}, "gp2", 3000, 0},
		{state.VolumeRequest{SizeGiB: 8, Type: "gp3"}, "gp3", 3000, 125},
		{state.VolumeRequest{SizeGiB: 160, Type: "gp3", IOPS: 80000, Throughput: 2000}, "gp3", 80000, 2000},
		{state.VolumeRequest{SizeGiB: 4, Type: "io1", IOPS: 1200}, "io1", 1200, 0},
		{state.VolumeRequest{SizeGiB: 4, Type: "standard"}, "standard", 0, 0},
	} {
		test.req.Zone = zone
		v := must[state.Volume](t)(c.CreateVolume(mine, test.req))
		if v.Type != test.kind || v.IOPS != test.iops || v.Throughput != test.throughput {
			t.Errorf("%+v made %s with %d iops and %d MiB/s", test.req, v.Type, v.IOPS, v.Throughput)
		}
	}
}

func TestAttachRefusals(t *testing.T) {
	c := newTestCloud(t, state.Instant())
	v, taken := c.volume().ID, c.volume().ID
	c.attach(taken, "/dev/sdf")
	elsewhere := must[state.Volume](t)(c.CreateVolume(mine, state.VolumeRequest{Zone: "eu-west-2b", SizeGiB: 1})).ID
	for name, test := range map[string]struct {
		req      state.AttachRequest
		kind     state.Kind
		resource string
	}{
		"volume unknown": {state.AttachRequest{VolumeID: "vol-0badbad0", VMID: c.host(), Device: "/dev/sdg"}, state.NotFound, "volume"},
		"no volume":      {state.AttachRequest{VMID: c.host(), Device: "/dev/sdg"}, state.Missing, "volume"},
		"VM unknown":     {state.AttachRequest{VolumeID: v, VMID: "i-0badbad0", Device: "/dev/sdg"}, state.NotFound, "instance"},
		"no device":      {state.AttachRequest{VolumeID: v, VMID: c.host()}, state.Missing, "device"},
		"device taken":   {state.AttachRequest{VolumeID: v, VMID: c.host(), Device: "/dev/sdf"}, state.InUse, "device"},
		"root taken":     {state.AttachRequest{VolumeID: v, VMID: c.host(), Device: "/dev/sda1"}, state.InUse, "device"},
		"attached":       {state.AttachRequest{VolumeID: taken, VMID: c.host(), Device: "/dev/sdg"}, state.InUse, "volume"},
		"other zone":     {state.AttachRequest{VolumeID: elsewhere, VMID: c.host(), Device: "/dev/sdg"}, state.InvalidValue, "zone"},
		"dry run":        {state.AttachRequest{VolumeID: v, VMID: c.host(), Device: "/dev/sdg", DryRun: true}, state.DryRun, "volume"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := c.AttachVolume(mine, test.req)
			wantRefusal(t, err, test.kind, test.resource)
		})
	}
	c.disks.Take("/dev/sdh")
	_, err := c.AttachVolume(mine, state.AttachRequest{VolumeID: v, VMID: c.host(), Device: "/dev/sdh"})
	wantRefusal(t, err, state.InUse, "device")
}

func TestAttachLimit(t *testing.T) {
	c := newTestCloud(t, state.Instant())
	for i := range 39 { // forty with the root volume
		c.attach(c.volume().ID, fmt.Sprintf("/dev/sd%c%c", 'b'+i/26, 'a'+i%26))
	}
	_, err := c.AttachVolume(mine, state.AttachRequest{VolumeID: c.volume().ID, VMID: c.host(), Device: "/dev/sdz"})
	wantRefusal(t, err, state.Limit, "instance")
}

func TestDetachRefusals(t *testing.T) {
	c := newTestCloud(t, state.Instant())
	loose, v := c.volume().ID, c.volume().ID
	c.attach(v, "/dev/sdf")
	for name, test := range map[string]struct {
		req      state.DetachRequest
		kind     state.Kind
		resource string
	}{
		"not attached": {state.DetachRequest{VolumeID: loose}, state.WrongState, "volume"},
		"other VM":     {state.DetachRequest{VolumeID: v, VMID: "i-0badbad0"}, state.InvalidValue, "instance"},
		"other device": {state.DetachRequest{VolumeID: v, Device: "/dev/sdg"}, state.InvalidValue, "device"},
		"dry run":      {state.DetachRequest{VolumeID: v, DryRun: true}, state.DryRun, "volume"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := c.DetachVolume(mine, test.req)
			wantRefusal(t, err, test.kind, test.resource)
		})
	}
	if s := c.attachState(v); s != state.Attached {
		t.Errorf("the attachment is %q", s)
	}
}

func TestImageRefusals(t *testing.T) {
	c := newTestCloud(t, state.Instant())
	s := c.snapshot().ID
	img := c.image("taken")
	with := func(change func(*state.ImageRequest)) state.ImageRequest {
		req := imageOf("new", s)
		change(&req)
		return req
	}
	for name, test := range map[string]struct {
		req      state.ImageRequest
		kind     state.Kind
		resource string
	}{
		"name taken":       {with(func(r *state.ImageRequest) { r.Name = "taken" }), state.Duplicate, "image"},
		"no name":          {with(func(r *state.ImageRequest) { r.Name = "" }), state.Missing, "name"},
		"short name":       {with(func(r *state.ImageRequest) { r.Name = "ab" }), state.InvalidValue, "name"},
		"long name":        {with(func(r *state.ImageRequest) { r.Name = strings.Repeat("a", 129) }), state.InvalidValue, "name"},
		"name's letters":   {with(func(r *state.ImageRequest) { r.Name = "a:b" }), state.InvalidValue, "name"},
		"id taken":         {with(func(r *state.ImageRequest) { r.ID = img.ID }), state.Duplicate, "image"},
		"id malformed":     {with(func(r *state.ImageRequest) { r.ID = "ami-1" }), state.Malformed, "image"},
		"no root":          {with(func(r *state.ImageRequest) { r.Attributes.RootDevice = "" }), state.Missing, "device"},
		"root not mapped":  {with(func(r *state.ImageRequest) { r.Attributes.RootDevice = "/dev/xvda" }), state.InvalidValue, "device"},
		"no mappings":      {with(func(r *state.ImageRequest) { r.Mappings = nil }), state.InvalidValue, "device"},
		"mapped twice":     {with(func(r *state.ImageRequest) { r.Mappings = append(r.Mappings, r.Mappings[0]) }), state.InvalidValue, "device"},
		"mapped to naught": {with(func(r *state.ImageRequest) { r.Mappings = append(r.Mappings, state.Mapping{Device: "/dev/sdb"}) }), state.InvalidValue, "device"},
		"two meanings":     {with(func(r *state.ImageRequest) { r.Mappings[0].NoDevice = true }), state.InvalidValue, "device"},
		"below snapshot":   {with(func(r *state.ImageRequest) { r.Mappings[0].Volume.SizeGiB = 1 }), state.InvalidValue, "size"},
		"neither":          {with(func(r *state.ImageRequest) { r.Mappings[0].Volume.SnapshotID = "" }), state.Missing, "size"},
		"snapshot unknown": {with(func(r *state.ImageRequest) { r.Mappings[0].Volume.SnapshotID = "snap-0badbad0" }), state.NotFound, "snapshot"},
		"encrypted":        {with(func(r *state.ImageRequest) { r.Mappings[0].Volume.Encrypted = true }), state.InvalidValue, "device"},
		"dry run":          {with(func(r *state.ImageRequest) { r.DryRun = true }), state.DryRun, "image"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := c.CreateImage(mine, test.req)
			wantRefusal(t, err, test.kind, test.resource)
			if n := len(c.Images(mine)); n != 1 {
				t.Errorf("there are %d images", n)
			}
		})
	}
	if _, err := c.CreateImage(theirs, imageOf("taken", s)); err == nil {
		t.Error("an image was made of a snapshot that is not shared")
	}
}

func TestImageOfPendingSnapshot(t *testing.T) {
	c := newTestCloud(t, state.Timing{Snapshot: time.Minute})
	_, err := c.CreateImage(mine, imageOf("early", c.snapshot().ID))
	wantRefusal(t, err, state.WrongState, "snapshot")
}

func TestImportedID(t *testing.T) {
	c := newTestCloud(t, state.Instant())
	req := imageOf("imported", c.snapshot().ID)
	req.ID = "ami-e81d5881"
	if img := must[state.Image](t)(c.CreateImage(mine, req)); img.ID != req.ID {
		t.Errorf("its id is %s", img.ID)
	}
}

func TestSharing(t *testing.T) {
	c := newTestCloud(t, state.Instant())
	img := c.image("shared")
	s := img.Mappings[0].Volume.SnapshotID
	from := state.VolumeRequest{Zone: zone, SnapshotID: s}

	_, err := c.CreateVolume(theirs, from)
	wantRefusal(t, err, state.NotFound, "snapshot")
	let := state.PermissionChange{Add: state.Permissions{Accounts: []string{other}}}
	must[state.Snapshot](t)(c.ShareSnapshot(mine, s, let, false))
	must[state.Image](t)(c.ShareImage(mine, img.ID, let, false))
	if v := must[state.Volume](t)(c.CreateVolume(theirs, from)); v.Account != other {
		t.Errorf("the volume is %s's", v.Account)
	}
	if len(c.Images(theirs)) != 1 || len(c.Snapshots(theirs)) != 1 {
		t.Error("what is shared is not listed")
	}
	if len(c.Images(state.Caller{Account: other, Region: away})) != 0 {
		t.Error("what is shared is listed in another region")
	}

	wantRefusal(t, c.DeleteImage(theirs, img.ID, false), state.NotAllowed, "image")
	wantRefusal(t, c.DeleteSnapshot(theirs, s, false), state.NotAllowed, "snapshot")
	wantRefusal(t, c.AddTags(theirs, []string{s}, map[string]string{"a": "b"}, false), state.NotAllowed, "snapshot")
	_, err = c.ShareImage(theirs, img.ID, let, false)
	wantRefusal(t, err, state.NotAllowed, "image")

	must[state.Image](t)(c.ShareImage(mine, img.ID, state.PermissionChange{Remove: state.Permissions{Accounts: []string{other}}}, false))
	wantRefusal(t, c.DeleteImage(theirs, img.ID, false), state.NotFound, "image")
	must[state.Image](t)(c.ShareImage(mine, img.ID, state.PermissionChange{Add: state.Permissions{Public: true}}, false))
	if !c.Images(theirs)[0].Launch.Public {
		t.Error("it is not public")
	}
	_, err = c.ShareImage(mine, img.ID, state.PermissionChange{Add: state.Permissions{Accounts: []string{"me"}}}, false)
	wantRefusal(t, err, state.Malformed, "account")
}

func TestEncryption(t *testing.T) {
	c := newTestCloud(t, state.Instant())
	v := must[state.Volume](t)(c.CreateVolume(mine, state.VolumeRequest{Zone: zone, SizeGiB: 1, Encrypted: true}))
	if !strings.Contains(v.KMSKeyID, home) {
		t.Errorf("its key is %q", v.KMSKeyID)
	}
	s := must[state.Snapshot](t)(c.CreateSnapshot(mine, state.SnapshotRequest{VolumeID: v.ID}))
	if !s.Encrypted || s.KMSKeyID != v.KMSKeyID {
		t.Errorf("its snapshot is %+v", s)
	}
	again := must[state.Volume](t)(c.CreateVolume(mine, state.VolumeRequest{Zone: zone, SnapshotID: s.ID, KMSKeyID: "alias/mine"}))
	if !again.Encrypted || again.KMSKeyID != state.KeyARN(mine, "alias/mine") {
		t.Errorf("a volume of that is %+v", again)
	}
	img := must[state.Image](t)(c.CreateImage(mine, imageOf("encrypted", s.ID)))
	if m := img.Mappings[0].Volume; !m.Encrypted || m.KMSKeyID != v.KMSKeyID {
		t.Errorf("an image of that has %+v", m)
	}
	for kind, ch := range map[state.Kind]state.Permissions{state.Secret: {Public: true}, state.Unshareable: {Accounts: []string{other}}} {
		t.Run(string(kind), func(t *testing.T) {
			_, err := c.ShareSnapshot(mine, s.ID, state.PermissionChange{Add: ch}, false)
			wantRefusal(t, err, kind, "snapshot")
			_, err = c.ShareImage(mine, img.ID, state.PermissionChange{Add: ch}, false)
			wantRefusal(t, err, kind, "image")
		})
	}
	own := must[state.Snapshot](t)(c.CopySnapshot(mine, state.SnapshotCopyRequest{SourceID: s.ID, KMSKeyID: "alias/mine"}))
	must[state.Snapshot](t)(c.ShareSnapshot(mine, own.ID, state.PermissionChange{Add: state.Permissions{Accounts: []string{other}}}, false))
}

func TestTags(t *testing.T) {
	c := newTestCloud(t, state.Instant())
	v := must[state.Volume](t)(c.CreateVolume(mine, state.VolumeRequest{Zone: zone, SizeGiB: 1, Tags: map[string]string{"a": "1"}}))
	s := must[state.Snapshot](t)(c.CreateSnapshot(mine, state.SnapshotRequest{VolumeID: v.ID}))
	both := []string{v.ID, s.ID}
	if err := c.AddTags(mine, both, map[string]string{"a": "2", "b": "3"}, false); err != nil {
		t.Fatal(err)
	}
	one, two := "1", "2"
	if err := c.RemoveTags(mine, []string{v.ID}, map[string]*string{"a": &one, "b": nil}, false); err != nil {
		t.Fatal(err)
	}
	if err := c.RemoveTags(mine, []string{s.ID}, map[string]*string{"a": &two}, false); err != nil {
		t.Fatal(err)
	}
	want := fmt.Sprint([]state.Tag{{s.ID, "snapshot", "b", "3"}, {v.ID, "volume", "a", "2"}})
	if got := fmt.Sprint(c.Tags(mine)); got != want {
		t.Errorf("the tags are %s, not %s", got, want)
	}
	if len(c.Tags(theirs)) != 0 {
		t.Error("another account sees them")
	}
	if err := c.RemoveTags(mine, both, nil, false); err != nil || len(c.Tags(mine)) != 0 {
		t.Errorf("removing all left %v (%v)", c.Tags(mine), err)
	}
}

func TestTagRefusals(t *testing.T) {
	c := newTestCloud(t, state.Instant())
	v := c.volume().ID
	many := map[string]string{}
	for i := range 51 {
		many[strconv.Itoa(i)] = ""
	}
	for name, test := range map[string]struct {
		ids      []string
		tags     map[string]string
		dry      bool
		kind     state.Kind
		resource string
	}{
		"no id":       {nil, nil, false, state.Missing, "tag"},
		"strange id":  {[]string{"x-01234567"}, nil, false, state.Malformed, "tag"},
		"malformed":   {[]string{"vol-1"}, nil, false, state.Malformed, "volume"},
		"unknown":     {[]string{v, "ami-0badbad0"}, map[string]string{"a": "b"}, false, state.NotFound, "image"},
		"empty key":   {[]string{v}, map[string]string{"": "b"}, false, state.InvalidValue, "tag"},
		"long key":    {[]string{v}, map[string]string{strings.Repeat("k", 256): ""}, false, state.InvalidValue, "tag"},
		"long value":  {[]string{v}, map[string]string{"k": strings.Repeat("v", 257)}, false, state.InvalidValue, "tag"},
		"too many":    {[]string{v}, many, false, state.Limit, "tag"},
		"only tested": {[]string{v}, map[string]string{"a": "b"}, true, state.DryRun, "tag"},
	} {
		t.Run(name, func(t *testing.T) {
			wantRefusal(t, c.AddTags(mine, test.ids, test.tags, test.dry), test.kind, test.resource)
			if got := c.Tags(mine); len(got) != 0 {
				t.Errorf("there are tags: %v", got)
			}
		})
	}
}

func TestTokens(t *testing.T) {
	c := newTestCloud(t, state.Instant())
	req := state.VolumeRequest{Zone: zone, SizeGiB: 1, Token: "once"}
	first := must[state.Volume](t)(c.CreateVolume(mine, req))
	c.restart()
	if again := must[state.Volume](t)(c.CreateVolume(mine, req)); again.ID != first.ID {
		t.Errorf("asked again, another volume %s was made", again.ID)
	}
	req.SizeGiB = 2
	_, err := c.CreateVolume(mine, req)
	wantRefusal(t, err, state.TokenMismatch, "token")
	if v := must[state.Volume](t)(c.CreateVolume(theirs, req)); v.ID == first.ID {
		t.Error("another account's token is the same")
	}
	s := must[state.Snapshot](t)(c.CreateSnapshot(mine, state.SnapshotRequest{VolumeID: first.ID, Token: "once"}))
	if again := must[state.Snapshot](t)(c.CreateSnapshot(mine, state.SnapshotRequest{VolumeID: first.ID, Token: "once"})); again.ID != s.ID {
		t.Error("another snapshot was made")
	}
	copied := state.ImageCopyRequest{SourceID: c.image("source").ID, Name: "copy", Token: "once"}
	if a, b := must[state.Image](t)(c.CopyImage(mine, copied)), must[state.Image](t)(c.CopyImage(mine, copied)); a.ID != b.ID {
		t.Error("another copy was made")
	}
	run := state.VMRequest{ImageID: copied.SourceID, Count: 2, Token: "once"}
	if a, b := must[[]state.VM](t)(c.RunVMs(mine, run)), must[[]state.VM](t)(c.RunVMs(mine, run)); fmt.Sprint(a) != fmt.Sprint(b) {
		t.Error("other VMs were run")
	}
	c.clock.Pass(24 * time.Hour)
	if v := must[state.Volume](t)(c.CreateVolume(mine, req)); v.ID == first.ID {
		t.Error("the token is remembered for ever")
	}
}
