//go:build linux

package loopcloud

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/packer-chroot/packer-plugin-chroot/loopcloud/ec2"
	"github.com/packer-chroot/packer-plugin-chroot/loopcloud/fault"
	"github.com/packer-chroot/packer-plugin-chroot/loopcloud/imds"
	"github.com/packer-chroot/packer-plugin-chroot/loopcloud/kms"
	"github.com/packer-chroot/packer-plugin-chroot/loopcloud/oapi"
	"github.com/packer-chroot/packer-plugin-chroot/loopcloud/sigv4"
	"github.com/packer-chroot/packer-plugin-chroot/loopcloud/state"
	"github.com/packer-chroot/packer-plugin-chroot/loopcloud/sts"
	"github.com/packer-chroot/packer-plugin-chroot/loopcloud/volume"
	"github.com/packer-chroot/packer-plugin-chroot/remove"
	"github.com/packer-chroot/packer-plugin-chroot/safedir"
)

// Options are what a Server is made of. A zero field other than Dir has the
// default that its comment names.
type Options struct {
	// Dir holds everything: it is made if it does not exist.
	Dir string
	// Existing refuses a directory that no cloud was in, and makes none.
	Existing bool
	// Regions are state.DefaultRegions.
	Regions []state.Region
	// Region is the default region, and is added to Regions if it is none of them:
	// the first of those.
	Region string
	// Account, if given, is one more account.
	Account string
	// Keys are the key pairs that requests may be signed with: none.
	Keys []state.Key
	// Timing is how long things take: no time.
	Timing state.Timing
	// Naming is how devices are named: as on Xen.
	Naming volume.Naming
	// AllowedHosts are names of this machine that requests may have in their Host header,
	// beside localhost and IP addresses: none.
	AllowedHosts []string
	// PublicKeys says that one of the Keys is known to everybody, so that a signature does
	// not tell who signed. Requests of all dialects are then checked for their Host.
	PublicKeys bool
	// Hosts is how many machines this one stands for: one.
	Hosts int
	// HostZone is the zone of the machine in the default region, which may be a Local Zone
	// such as us-west-2-lax-1a: the region's first.
	HostZone string
	// Outpost is the ARN of the Outpost that the machine runs on: none.
	Outpost string
	// MetadataHops is how many hops clients are from the metadata service: one. In a
	// container with a network of its own it would be two.
	MetadataHops int
	// Clock tells the time: time.Now.
	Clock func() time.Time
	// Disks keeps the bytes: a volume.Store in Dir.
	Disks state.Disks
	// Faults are in force from the beginning: none. Their Check must be nil.
	Faults []fault.Rule
	// Settings are what accounts have set in regions: what was set before.
	Settings []Setting
	// Seed is for the faults that are left to probability.
	Seed uint64
}

// Server is a cloud that answers requests.
type Server struct {
	cloud *state.Cloud
	*faults
	handler http.Handler
	tmp     string
	dir     string
	hops    int
	// token is what the control wants.
	token     string
	strangers strangers
	advanced  skew
	end       context.CancelFunc
}

// New opens the cloud in a directory. Devices that an earlier process left there
// are released. It fails when another process has the directory open.
func New(o Options) (*Server, error) {
	if err := o.there(); err != nil {
		return nil, err
	}
	dir, err := o.open()
	if err != nil {
		return nil, err
	}
	defer dir.Close()
	o.Dir = dir.Path()
	disks, err := o.disks()
	if err != nil {
		return nil, err
	}
	ending, end := context.WithCancel(context.Background())
	s := &Server{faults: &faults{ending: ending}, end: end, tmp: filepath.Join(o.Dir, "tmp"), dir: o.Dir, hops: o.MetadataHops, strangers: strangers{o.AllowedHosts}}
	s.rules.Seed(o.Seed)
	s.rules.Add(o.Faults...)
	cloud, err := state.Open(state.Config{
		Dir: o.Dir, Clock: s.clock(o.Clock), Fate: s.fate, Disks: disks, Timing: o.Timing, Keys: o.Keys,
		Regions: o.regions(), DefaultRegion: o.Region, Hosts: o.Hosts, Accounts: accountsWith(o.Account),
		HostZone: o.HostZone, Outpost: o.Outpost,
	})
	if err != nil {
		end()
		return nil, err
	}
	s.cloud = cloud
	if err := s.Set(o.Settings...); err != nil {
		return nil, errors.Join(err, cloud.Close())
	}
	if err := remove.All(s.tmp); err != nil { // what a killed process was importing
		return nil, errors.Join(fmt.Errorf("cannot clear %s: %w", s.tmp, err), cloud.Close())
	}
	if s.token, err = tokenIn(dir); err != nil {
		return nil, errors.Join(fmt.Errorf("cannot make the control token: %w", err), cloud.Close())
	}
	authorize := noting(sigv4.NewAuthorizer(timed{cloud, s.faults}))
	s.handler = s.routes(o.PublicKeys, map[string]Dialect{
		"ec2": ec2.New(cloud, authorize), "sts": sts.New(cloud, authorize), "kms": kms.New(authorize),
		"imds": s.instanceMetadata(0), "oapi": oapi.New(cloud, authorize),
	})
	return s, nil
}

// there refuses a directory without a cloud, if there has to be one.
func (o Options) there() error {
	if !o.Existing {
		return nil
	}
	kept, err := state.Exists(o.Dir)
	if err == nil && !kept {
		err = fmt.Errorf("there is no cloud in %s", o.Dir)
	}
	return err
}

// open opens the directory, which is made if it does not exist. It fails if another user
// owns it or can write to it: such a user could exchange the disks and the token. A
// symbolic link to the directory is followed if nobody else can replace it.
func (o Options) open() (*safedir.Dir, error) {
	if o.Dir == "" {
		return nil, errors.New("cannot open a cloud without a directory")
	}
	path := o.Dir
	if info, err := os.Lstat(path); err == nil && info.Mode()&os.ModeSymlink != 0 {
		if err := safedir.Fixed(path); err != nil {
			return nil, fmt.Errorf("cannot keep a cloud in --dir %s: %w", o.Dir, err)
		}
		if path, err = filepath.EvalSymlinks(path); err != nil {
			return nil, fmt.Errorf("cannot keep a cloud in --dir %s: %w", o.Dir, err)
		}
	}
	dir, err := safedir.Make(path, 0o700)
	if err != nil {
		return nil, fmt.Errorf("cannot keep a cloud in --dir %s: %w", o.Dir, err)
	}
	return dir, nil
}

func (o Options) disks() (state.Disks, error) {
	if o.Disks != nil {
		return o.Disks, nil
	}
	if o.Naming == "" {
		o.Naming = volume.Xen
	}
	return volume.Open(o.Dir, o.Naming, volume.Options{})
}

// regions are those asked for, or the usual ones, and the default one.
func (o Options) regions() []state.Region {
	regions := o.Regions
	if len(regions) == 0 {
		regions = state.DefaultRegions()
	}
	isDefault := func(r state.Region) bool { return r.Name == o.Region }
	if o.Region == "" || slices.ContainsFunc(regions, isDefault) {
		return regions
	}
	return append(slices.Clone(regions), state.NewRegion(o.Region))
}

// accountsWith are the usual account and one more, if it is another.
func accountsWith(id string) []state.Account {
	accounts := []state.Account{{ID: state.DefaultAccount}}
	if id != "" && id != state.DefaultAccount {
		accounts = append(accounts, state.Account{ID: id})
	}
	return accounts
}

// routes returns a handler that finds the dialect of a request by its path. EC2, STS and
// KMS share one path: see queries.
func (s *Server) routes(publicKeys bool, dialects map[string]Dialect) http.Handler {
	front := func(name string) *front {
		f := &front{name: name, identity: s.cloud.Identity(), Dialect: dialects[name], faults: s.faults}
		if publicKeys {
			f.strangers = &s.strangers
		}
		return f
	}
	ways := []struct {
		prefix string
		to     http.Handler
	}{
		{"/latest/", s.metadata(dialects["imds"])},
		{"/api/v1/", front("oapi")},
		{"/api/latest/", front("oapi")},
		{"/_loopcloud/", s.control()},
	}
	root := queries{ec2: front("ec2"), sts: front("sts"), kms: front("kms")}
	// Not a ServeMux: it would redirect paths that it finds unclean, and a
	// redirected request has lost its signature.
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/" {
			root.ServeHTTP(w, r)
			return
		}
		for _, way := range ways {
			if strings.HasPrefix(r.URL.Path, way.prefix) {
				way.to.ServeHTTP(w, r)
				return
			}
		}
		http.Error(w, "loopcloud has nothing at "+r.URL.Path, http.StatusNotFound)
	})
}

// ServeHTTP answers a request.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) { s.handler.ServeHTTP(w, r) }

// Metadata is the metadata service of one of the Hosts, from 0 on. That of the first is
// also among what the Server answers itself; the others each need an address of their
// own, for the path is the service's.
func (s *Server) Metadata(host int) http.Handler {
	return s.metadata(s.instanceMetadata(host))
}

// instanceMetadata is the metadata service of a host.
func (s *Server) instanceMetadata(host int) *imds.Handler {
	h := imds.NewOf(s.cloud, host)
	h.Hops = s.hops
	return h
}

// metadata is a metadata service. Nobody signs requests to it.
func (s *Server) metadata(d Dialect) http.Handler {
	return s.strangers.before(&front{name: "imds", identity: s.cloud.Identity(), Dialect: d, faults: s.faults}, forbid)
}

// Token returns the control token, and the file that holds it.
func (s *Server) Token() (token, file string) { return s.token, TokenFile(s.dir) }

// Cloud is the state behind the server, for tests that look at it or drive it.
func (s *Server) Cloud() *state.Cloud { return s.cloud }

// grace is how long requests under way have when the server stops.
const grace = 5 * time.Second

// Serve answers the listener's connections until the context ends. Requests that
// are then under way are let finish, within a bound.
func (s *Server) Serve(ctx context.Context, l net.Listener) error {
	var unused connections
	server := &http.Server{Handler: s, ReadHeaderTimeout: time.Minute, ConnState: unused.follow}
	ended := make(chan error, 1)
	go func() { ended <- server.Serve(l) }()
	select {
	case err := <-ended:
		return fmt.Errorf("cannot serve %s: %w", l.Addr(), err)
	case <-ctx.Done():
	}
	s.end() // what is held or hangs would never finish
	unused.close()
	bounded, cancel := context.WithTimeout(context.WithoutCancel(ctx), grace)
	defer cancel()
	if err := server.Shutdown(bounded); err != nil {
		return errors.Join(fmt.Errorf("cannot let all requests finish: %w", err), server.Close())
	}
	return nil
}

// connections are those on which no request has come yet. Shutdown would wait for them
// for five seconds, and clients keep some in reserve.
type connections struct {
	mu    sync.Mutex
	all   map[net.Conn]bool
	ended bool
}

// follow is a server's ConnState.
func (c *connections) follow(conn net.Conn, now http.ConnState) {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case now != http.StateNew:
		delete(c.all, conn)
	case c.ended:
		_ = conn.Close()
	default:
		if c.all == nil {
			c.all = map[net.Conn]bool{}
		}
		c.all[conn] = true
	}
}

// close closes them, and those that are still to come.
func (c *connections) close() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.ended = true
	for conn := range c.all {
		_ = conn.Close()
	}
}

// Close takes away all devices and gives the directory up. The server must have
// stopped serving.
func (s *Server) Close() error {
	s.end()
	return s.cloud.Close()
}

// temporary makes a file for a disk that passes through.
func (s *Server) temporary() (*os.File, error) {
	if err := os.MkdirAll(s.tmp, 0o700); err != nil {
		return nil, fmt.Errorf("cannot make a temporary file: %w", err)
	}
	return os.CreateTemp(s.tmp, "disk-*")
}
