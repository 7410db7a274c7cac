package state

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"
)

// DefaultAccount owns what is made by a key that names no account.
const DefaultAccount = "123456789012"

// Config is what a Cloud is made of. A zero field has the default that its
// comment names; Dir and Disks have none.
type Config struct {
	// Dir holds state.json and the lock. It is made if it does not exist.
	Dir string
	// Clock tells the time: time.Now.
	Clock func() time.Time
	// NewID makes up an id such as vol-0123456789abcdef0 of a prefix and a number
	// of hexadecimal digits: random ones.
	NewID func(prefix string, digits int) string
	// Disks keeps the bytes.
	Disks Disks
	// Timing is how long things take: no time.
	Timing Timing
	// Regions are DefaultRegions.
	Regions []Region
	// DefaultRegion is the first region.
	DefaultRegion string
	// Accounts are DefaultAccount; accounts that only a key names are added.
	Accounts []Account
	// Hosts is how many machines this one stands for, in every place: one.
	Hosts int
	// HostZone is the zone of this machine in the default region, which may be a Local
	// Zone: the region's first. It is added to the region's zones if it is none of them.
	HostZone string
	// Outpost is the ARN of the Outpost in that zone that this machine runs on: none.
	Outpost string
	// Fate decides what becomes of acts: all is well. It is asked once for each that
	// has an effect, and must not call the Cloud.
	Fate func(Act) Fate
	// Keys are the key pairs that requests may be signed with. One that names no
	// account is the first account's.
	Keys []Key
}

// DefaultRegions are the regions of a Cloud that is not told otherwise. The
// first one has zones of the same names at AWS and at Outscale, the last one is
// one that no account has opted in to.
func DefaultRegions() []Region {
	names := []string{"eu-west-2", "us-east-1", "us-west-2", "eu-west-1", "us-east-2", "cloudgouv-eu-west-1"}
	regions := make([]Region, len(names))
	for i, name := range names {
		regions[i] = NewRegion(name)
	}
	optedIn, notOptedIn := NewRegion("eu-south-1"), NewRegion("me-south-1")
	optedIn.OptIn, notOptedIn.OptIn = OptedIn, NotOptedIn
	return append(regions, optedIn, notOptedIn)
}

// NewRegion is a region of this name with the zones a and b, which every account
// uses without asking.
func NewRegion(name string) Region {
	return Region{Name: name, Zones: []string{name + "a", name + "b"}, OptIn: OptInNotRequired}
}

// Cloud is the state of a cloud. Its methods may be called from many goroutines
// at once.
//
// What a thing is at a time follows from its record and the clock: a volume
// reads creating until the time it is said to take has passed, with nobody
// having to change it then. Only the end of an attachment needs an act, which is
// tried on every call and now and then in between.
//
// The methods that make or change something answer an *Error when they refuse;
// any other error is a fault of loopcloud or its machine. DryRun in a request
// makes a call that would succeed answer an *Error of the kind DryRun.
//
// The methods that read answer what the caller may see in its region, ordered by
// creation time and then id.
type Cloud struct {
	clock         func() time.Time
	newID         func(string, int) string
	disks         Disks
	timing        Timing
	regions       []Region
	defaultRegion string
	accounts      []Account
	hosts         int
	hostZone      string
	outpost       string
	keys          map[string]Key
	fates         func(Act) Fate
	sessions      sessions
	store         *store

	mu     sync.Mutex
	freed  *sync.Cond     // a claim was given up
	claims map[string]int // by id: -1 is being written, n being read by n
	db     database
	// What describing calls tell of what was acted on.
	volumePasts   pasts[Volume]
	snapshotPasts pasts[Snapshot]
	imagePasts    pasts[Image]

	wake chan struct{} // something is detaching
	quit chan struct{}
	idle sync.WaitGroup
	once sync.Once
}

// Identity tells the cloud from every other one. It is kept in the directory.
func (c *Cloud) Identity() string { return c.store.identity }

// Open reads the state in the configuration's directory, or starts a new one.
// Devices that an earlier process left behind are released, volumes that were
// attached to this machine are available again, and what an earlier process had
// half made is removed.
//
// It fails when another process has the directory open, and when state.json is
// torn or was written by another version.
func Open(cfg Config) (*Cloud, error) {
	c, err := configured(cfg)
	if err != nil {
		return nil, err
	}
	if c.store, err = openStore(cfg.Dir); err != nil {
		return nil, err
	}
	if err := c.start(); err != nil {
		return nil, errors.Join(err, c.store.close())
	}
	c.idle.Add(1)
	go c.retryDetaches()
	return c, nil
}

func configured(cfg Config) (*Cloud, error) {
	if cfg.Dir == "" || cfg.Disks == nil {
		return nil, errors.New("cannot open a cloud without a directory and disks")
	}
	c := &Cloud{
		clock: cfg.Clock, newID: cfg.NewID, disks: cfg.Disks, timing: cfg.Timing,
		hosts: max(cfg.Hosts, 1), hostZone: cfg.HostZone, outpost: cfg.Outpost, regions: cfg.Regions, defaultRegion: cfg.DefaultRegion, accounts: slices.Clone(cfg.Accounts),
		keys: map[string]Key{}, claims: map[string]int{}, fates: cfg.Fate,
		volumePasts: pasts[Volume]{}, snapshotPasts: pasts[Snapshot]{}, imagePasts: pasts[Image]{},
		wake: make(chan struct{}, 1), quit: make(chan struct{}),
	}
	c.freed = sync.NewCond(&c.mu)
	c.fillDefaults()
	if r := c.region(c.defaultRegion); r == nil || r.OptIn == NotOptedIn {
		return nil, fmt.Errorf("cannot open a cloud: its default region %s is none of its regions", c.defaultRegion)
	}
	if !strings.HasPrefix(c.hostZone, c.defaultRegion) {
		return nil, fmt.Errorf("cannot open a cloud: zone %s is none of region %s", c.hostZone, c.defaultRegion)
	}
	c.addKeys(cfg.Keys)
	return c, nil
}

func (c *Cloud) fillDefaults() {
	if c.clock == nil {
		c.clock = time.Now
	}
	if c.newID == nil {
		c.newID = randomID
	}
	if len(c.regions) == 0 {
		c.regions = DefaultRegions()
	}
	if c.defaultRegion == "" {
		c.defaultRegion = c.regions[0].Name
	}
	if len(c.accounts) == 0 {
		c.accounts = []Account{{ID: DefaultAccount}}
	}
	c.addHostZone()
}

// addHostZone makes the zone of this machine one of the default region's.
func (c *Cloud) addHostZone() {
	r := c.region(c.defaultRegion)
	if r == nil || len(r.Zones) == 0 {
		return
	}
	c.hostZone = either(c.hostZone, r.Zones[0])
	if !slices.Contains(r.Zones, c.hostZone) {
		c.regions = slices.Clone(c.regions)
		r = c.region(c.defaultRegion)
		r.Zones = append(slices.Clone(r.Zones), c.hostZone)
	}
}

func (c *Cloud) addKeys(keys []Key) {
	for _, k := range keys {
		if k.Account == "" {
			k.Account = c.accounts[0].ID
		}
		known := func(a Account) bool { return a.ID == k.Account }
		if !slices.ContainsFunc(c.accounts, known) {
			c.accounts = append(c.accounts, Account{ID: k.Account})
		}
		c.keys[k.ID] = k
	}
}

func (c *Cloud) start() error {
	db, err := c.store.load()
	if err != nil {
		return err
	}
	c.db = db
	if err := c.disks.ReleaseAll(); err != nil {
		return fmt.Errorf("cannot release the devices of an earlier process: %w", err)
	}
	if err := c.recover(); err != nil {
		return err
	}
	c.adopt()
	c.addHosts()
	return c.save()
}

// Close takes away all devices, saves the state and gives the directory up. A
// device that is in use may outlive it; the error says so.
func (c *Cloud) Close() error {
	var err error
	c.once.Do(func() { err = c.close() })
	return err
}

func (c *Cloud) close() error {
	close(c.quit)
	c.idle.Wait()
	c.mu.Lock()
	defer c.mu.Unlock()
	for len(c.claims) > 0 {
		c.freed.Wait()
	}
	err := c.disks.ReleaseAll()
	if err == nil {
		c.dropHostLinks()
	}
	return errors.Join(err, c.save(), c.store.close())
}

// Now is the time by the cloud's clock.
func (c *Cloud) Now() time.Time { return c.clock() }

// Regions lists the regions that there is something in, the default one not
// necessarily first.
func (c *Cloud) Regions() []Region {
	return slices.DeleteFunc(c.AllRegions(), func(r Region) bool { return r.OptIn == NotOptedIn })
}

// AllRegions are the Regions and those that nobody has opted in to.
func (c *Cloud) AllRegions() []Region {
	out := slices.Clone(c.regions)
	for i := range out {
		out[i].Zones = slices.Clone(out[i].Zones)
	}
	return out
}

// DefaultRegion is the region of a request that names none.
func (c *Cloud) DefaultRegion() string { return c.defaultRegion }

// Accounts lists the accounts, the default one first.
func (c *Cloud) Accounts() []Account { return slices.Clone(c.accounts) }

// Key finds a key pair by its id, temporary ones included, which may have ended.
func (c *Cloud) Key(id string) (Key, bool) {
	if k, ok := c.keys[id]; ok {
		return k, true
	}
	return c.sessions.find(id)
}

// adopt adds the accounts and regions that hold something and that the
// configuration, unlike an earlier one, does not name. Every place that was ever
// configured has a VM: its host.
func (c *Cloud) adopt() {
	for _, id := range slices.Sorted(maps.Keys(c.db.VMs)) {
		at := c.db.VMs[id].place()
		if !slices.ContainsFunc(c.accounts, func(a Account) bool { return a.ID == at.Account }) {
			c.accounts = append(c.accounts, Account{ID: at.Account})
		}
		if c.region(at.Region) == nil {
			c.regions = append(slices.Clone(c.regions), NewRegion(at.Region))
		}
	}
}

func (c *Cloud) region(name string) *Region {
	i := slices.IndexFunc(c.regions, func(r Region) bool { return r.Name == name })
	if i < 0 {
		return nil
	}
	return &c.regions[i]
}

// inRegion refuses a caller whose region is none.
func (c *Cloud) inRegion(caller Caller) error {
	if r := c.region(caller.Region); r == nil || r.OptIn == NotOptedIn {
		return refuse(NotFound, "region", caller.Region, "there is no such region")
	}
	return nil
}

func (c *Cloud) save() error { return c.store.save(&c.db) }
