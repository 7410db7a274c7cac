package state

import (
	"cmp"
	"crypto/rand"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"
)

// DefaultAccount owns the resources of keys without an account.
const DefaultAccount = "123456789012"

// Config configures a Cloud. Dir and Disks are required; the comments of the other fields name
// their defaults.
type Config struct {
	// Dir holds state.json and the lock. It is created if it does not exist.
	Dir string
	// Clock returns the time. The default is time.Now.
	Clock func() time.Time
	// NewID returns a new ID such as vol-0123456789abcdef0 for a prefix and a number of
	// hexadecimal digits. The default is a random one.
	NewID func(prefix string, digits int) string
	// Disks stores the data.
	Disks Disks
	// Timing is the duration of state changes. The default is 0.
	Timing Timing
	// Regions defaults to DefaultRegions.
	Regions []Region
	// DefaultRegion defaults to the first region.
	DefaultRegion string
	// Accounts defaults to DefaultAccount. Accounts of Keys are added.
	Accounts []Account
	// Hosts is the number of VMs in each region that stand for this machine. The default is 1.
	Hosts int
	// NoHosts means that this machine is no VM, as one outside of the cloud: Hosts is ignored.
	NoHosts bool
	// HostZone is the zone of this machine in the default region. It may be a Local Zone and is
	// added to the region's zones. The default is the region's first zone.
	HostZone string
	// Outpost is the ARN of this machine's Outpost in that zone. The default is no Outpost.
	Outpost string
	// SnapshotQuota is the largest number of snapshots of an account in a region. StartSnapshot
	// refuses to create more. The default is 100,000.
	SnapshotQuota int
	// Outcome returns the outcome of an act. It is called once for each act that has an effect, and
	// must not call the Cloud. By default every act succeeds.
	Outcome func(Act) Outcome
	// Keys are the key pairs that requests may be signed with. A key without an account belongs
	// to the first account.
	Keys []Key
}

// DefaultRegions returns the default regions. The first one has zones of the same names at AWS
// and at Outscale; the last one is a region that no account has opted in to.
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

// NewRegion returns a region with its zones that needs no opt-in.
func NewRegion(name string) Region {
	return Region{Name: name, Zones: zonesOf(name), OptIn: OptInNotRequired}
}

// Cloud is the state of a cloud. Its methods may be called concurrently.
//
// The state of a resource follows from its record and the clock: a volume is creating until its
// time has passed, and no timer changes it. Only detaching needs an action, which is attempted on
// every call and periodically.
//
// Methods that change something return an *Error if they refuse the request; any other error is a
// fault of loopcloud or of its machine. With DryRun, a request that would succeed returns an
// *Error of the kind DryRun.
//
// Methods that read return the resources that the caller can see in its region, ordered by
// creation time and ID.
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
	snapshotQuota int
	keys          map[string]Key
	outcomes      func(Act) Outcome
	sessions      sessions
	store         *store

	mu     sync.Mutex
	freed  *sync.Cond     // signalled when a claim is released
	claims map[string]int // by ID: -1 for a writer, n for n readers
	db     database
	// volumeStale, snapshotStale and imageStale hold the outdated states that describing calls
	// still return.
	volumeStale   staleStates[Volume]
	snapshotStale staleStates[Snapshot]
	imageStale    staleStates[Image]

	wake chan struct{} // signalled when a volume starts detaching
	quit chan struct{}
	idle sync.WaitGroup
	once sync.Once
}

// Identity returns the identity of this cloud, which differs from that of every other cloud. The
// directory holds it.
func (c *Cloud) Identity() string { return c.store.identity }

// hostCount returns the number of VMs in each region that stand for this machine.
func (cfg *Config) hostCount() int {
	if cfg.NoHosts {
		return 0
	}
	return max(cfg.Hosts, 1)
}

// Open reads the state in the configured directory, or starts an empty one. It releases the
// devices of an earlier process, makes volumes that were attached to this machine available
// again, and removes resources that were not completed.
//
// It fails if another process has the directory open, or if state.json is damaged or has another
// version.
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
		hosts: cfg.hostCount(), hostZone: cfg.HostZone, outpost: cfg.Outpost, snapshotQuota: cfg.SnapshotQuota, regions: cfg.Regions, defaultRegion: cfg.DefaultRegion, accounts: slices.Clone(cfg.Accounts),
		keys: map[string]Key{}, claims: map[string]int{}, outcomes: cfg.Outcome,
		volumeStale: staleStates[Volume]{}, snapshotStale: staleStates[Snapshot]{}, imageStale: staleStates[Image]{},
		wake: make(chan struct{}, 1), quit: make(chan struct{}),
	}
	c.freed = sync.NewCond(&c.mu)
	c.fillDefaults()
	if r := c.region(c.defaultRegion); r == nil || r.OptIn == NotOptedIn {
		return nil, fmt.Errorf("cannot open a cloud: its default region %s is not one of its regions", c.defaultRegion)
	}
	if !strings.HasPrefix(c.hostZone, c.defaultRegion) {
		return nil, fmt.Errorf("cannot open a cloud: zone %s is not in region %s", c.hostZone, c.defaultRegion)
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
	if c.snapshotQuota == 0 {
		c.snapshotQuota = snapshotQuota
	}
	if len(c.accounts) == 0 {
		c.accounts = []Account{{ID: DefaultAccount}}
	}
	c.addHostZone()
}

// addHostZone adds the zone of this machine to the default region.
func (c *Cloud) addHostZone() {
	r := c.region(c.defaultRegion)
	if r == nil || len(r.Zones) == 0 {
		return
	}
	c.hostZone = cmp.Or(c.hostZone, r.Zones[0])
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
	if len(c.db.Secret) == 0 {
		c.db.Secret = []byte(rand.Text())
	}
	c.adopt()
	c.addHosts()
	return c.save()
}

// Close removes all devices, saves the state and unlocks the directory. If a device in use cannot
// be removed, it returns an error.
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

// Secret returns a secret of this cloud that authenticates the tokens it issues. The directory
// holds it.
func (c *Cloud) Secret() []byte { return c.db.Secret }

// Timing returns the configured durations and rates.
func (c *Cloud) Timing() Timing { return c.timing }

// Now returns the time of the cloud's clock.
func (c *Cloud) Now() time.Time { return c.clock() }

// Regions returns the regions that are in use. The default region is not necessarily the first.
func (c *Cloud) Regions() []Region {
	return slices.DeleteFunc(c.AllRegions(), func(r Region) bool { return r.OptIn == NotOptedIn })
}

// AllRegions returns Regions and the regions that no account has opted in to.
func (c *Cloud) AllRegions() []Region {
	out := slices.Clone(c.regions)
	for i := range out {
		out[i].Zones = slices.Clone(out[i].Zones)
	}
	return out
}

// DefaultRegion returns the region of requests that name none.
func (c *Cloud) DefaultRegion() string { return c.defaultRegion }

// Accounts returns the accounts, the default one first.
func (c *Cloud) Accounts() []Account { return slices.Clone(c.accounts) }

// Key returns a key pair by its ID. It may be a temporary one that has expired.
func (c *Cloud) Key(id string) (Key, bool) {
	if k, ok := c.keys[id]; ok {
		return k, true
	}
	return c.sessions.find(id)
}

// adopt adds the accounts and regions of existing resources that the configuration does not name.
// Every account and region has a VM that stands for this machine.
func (c *Cloud) adopt() {
	for _, id := range slices.Sorted(maps.Keys(c.db.VMs)) {
		at := c.db.VMs[id].scope()
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

// inRegion returns an error if the caller's region does not exist.
func (c *Cloud) inRegion(caller Caller) error {
	if r := c.region(caller.Region); r == nil || r.OptIn == NotOptedIn {
		return refuse(NotFound, "region", caller.Region, "there is no such region")
	}
	return nil
}

func (c *Cloud) save() error { return c.store.save(&c.db) }
