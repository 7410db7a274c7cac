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

	"github.com/packer-chroot/packer-plugin-chroot/loopcloud/ebs"
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

// Options configures a Server. Dir is required; the comments of the other fields name their
// defaults.
type Options struct {
	// Dir holds all data. It is created if it does not exist.
	Dir string
	// Existing refuses a directory without a cloud.
	Existing bool
	// Regions defaults to state.DefaultRegions.
	Regions []state.Region
	// Region is the default region. It is added to Regions. The default is the first of Regions.
	Region string
	// Account is an additional account.
	Account string
	// Keys are the key pairs that requests may be signed with. The default is none.
	Keys []state.Key
	// Timing is the duration of state changes. The default is 0.
	Timing state.Timing
	// Naming is the scheme of device names. The default is that of Xen.
	Naming volume.Naming
	// AllowedHosts are host names of this machine that requests may have in their Host header, in
	// addition to localhost and IP addresses. The default is none.
	AllowedHosts []string
	// PublicKeys means that one of the Keys is publicly known, so that a signature does not
	// authenticate a client. The Host header of all requests is then checked.
	PublicKeys bool
	// Hosts is the number of machines that this machine stands for. The default is 1.
	Hosts int
	// NoHosts means that this machine is no instance: the metadata service refuses all requests.
	NoHosts bool
	// HostZone is the zone of the machine in the default region. It may be a Local Zone such as
	// us-west-2-lax-1a. The default is the region's first zone.
	HostZone string
	// Outpost is the ARN of the machine's Outpost. The default is none.
	Outpost string
	// MetadataHops is the distance of clients from the metadata service in network hops. The
	// default is 1. In a container with its own network it is 2.
	MetadataHops int
	// Clock returns the time. The default is time.Now.
	Clock func() time.Time
	// Disks stores the data. The default is a volume.Store in Dir.
	Disks state.Disks
	// Faults are the fault rules in force from the beginning. They must be valid.
	Faults []fault.Rule
	// Settings are changes of account settings.
	Settings []Setting
	// Seed is the seed for faults with a probability.
	Seed uint64
}

// Server is a cloud that serves requests.
type Server struct {
	cloud *state.Cloud
	*faults
	handler http.Handler
	tmp     string
	dir     string
	hops    int
	// token is the control token.
	token    string
	origins  originPolicy
	advanced skew
	end      context.CancelFunc
}

// New opens the cloud in a directory, and releases devices of an earlier process. It returns an
// error if another process has the directory open.
func New(o Options) (*Server, error) {
	if err := o.checkExisting(); err != nil {
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
	s := &Server{
		faults: &faults{ending: ending}, end: end, tmp: filepath.Join(o.Dir, "tmp"), dir: o.Dir, hops: o.MetadataHops,
		origins: originPolicy{o.AllowedHosts},
	}
	s.rules.Seed(o.Seed)
	s.rules.Add(o.Faults...)
	cloud, err := state.Open(state.Config{
		Dir: o.Dir, Clock: s.clock(o.Clock), Outcome: s.outcome, Disks: disks, Timing: o.Timing, Keys: o.Keys,
		Regions: o.regions(), DefaultRegion: o.Region, Hosts: o.Hosts, NoHosts: o.NoHosts, Accounts: accountsWith(o.Account),
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
	if err := remove.All(s.tmp); err != nil { // an unfinished import of a killed process
		return nil, errors.Join(fmt.Errorf("cannot clear %s: %w", s.tmp, err), cloud.Close())
	}
	if s.token, err = tokenIn(dir); err != nil {
		return nil, errors.Join(fmt.Errorf("cannot make the control token: %w", err), cloud.Close())
	}
	authorize := recordCaller(sigv4.NewAuthorizer(timed{cloud, s.faults}))
	s.handler = s.routes(o.PublicKeys, map[string]Dialect{
		"ec2": ec2.New(cloud, authorize), "sts": sts.New(cloud, authorize), "kms": kms.New(authorize),
		"imds": s.instanceMetadata(0), "oapi": oapi.New(cloud, authorize), "ebs": ebs.New(cloud, authorize),
	})
	return s, nil
}

// checkExisting returns an error if there must be a cloud in the directory and there is none.
func (o Options) checkExisting() error {
	if !o.Existing {
		return nil
	}
	kept, err := state.Exists(o.Dir)
	if err == nil && !kept {
		err = fmt.Errorf("there is no cloud in %s", o.Dir)
	}
	return err
}

// open opens the directory. It creates the directory if it does not exist. It returns an error if
// another user owns it or can write to it: such a user could replace the disks and the token. It
// follows a symbolic link to the directory if no other user can replace the link.
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

// regions returns the configured regions or the default ones, and the default region.
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

// accountsWith returns the default account and this one.
func accountsWith(id string) []state.Account {
	accounts := []state.Account{{ID: state.DefaultAccount}}
	if id != "" && id != state.DefaultAccount {
		accounts = append(accounts, state.Account{ID: id})
	}
	return accounts
}

// routes returns a handler that finds the dialect of a request by its path. EC2, STS and
// KMS share one path: see sharedPath.
func (s *Server) routes(publicKeys bool, dialects map[string]Dialect) http.Handler {
	handler := func(name string) *dialectHandler {
		h := &dialectHandler{name: name, identity: s.cloud.Identity(), Dialect: dialects[name], faults: s.faults}
		if publicKeys {
			h.origins = &s.origins
		}
		return h
	}
	ways := []struct {
		prefix string
		to     http.Handler
	}{
		{"/latest/", s.metadata(dialects["imds"])},
		{"/api/v1/", handler("oapi")},
		{"/api/latest/", handler("oapi")},
		{ebs.Path, ebsHandler{handler("ebs"), bodyTimeout}},
		{"/_loopcloud/", s.control()},
	}
	root := sharedPath{ec2: handler("ec2"), sts: handler("sts"), kms: handler("kms")}
	// Not a ServeMux: it would redirect unclean paths, and a redirected request has an invalid
	// signature.
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

// ServeHTTP responds to a request.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) { s.handler.ServeHTTP(w, r) }

// Metadata returns the metadata service of one of the Hosts, from 0 on. The Server itself serves
// that of the first host; the others need their own addresses, because the paths are fixed.
func (s *Server) Metadata(host int) http.Handler {
	return s.metadata(s.instanceMetadata(host))
}

// instanceMetadata returns the metadata service of a host.
func (s *Server) instanceMetadata(host int) *imds.Handler {
	h := imds.NewOf(s.cloud, host)
	h.Hops = s.hops
	return h
}

// metadata returns the handler of a metadata service. Requests to it are not signed.
func (s *Server) metadata(d Dialect) http.Handler {
	return s.origins.wrap(&dialectHandler{name: "imds", identity: s.cloud.Identity(), Dialect: d, faults: s.faults}, forbid)
}

// Token returns the control token and the name of the file that holds it.
func (s *Server) Token() (token, file string) { return s.token, TokenFile(s.dir) }

// Cloud returns the state behind the server, for tests.
func (s *Server) Cloud() *state.Cloud { return s.cloud }

// grace is how long requests in progress may take after the server stops.
const grace = 5 * time.Second

// Serve serves the connections of a listener until the context ends. Requests in progress then
// have a limited time to finish.
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
	s.end() // held and hanging calls would not finish
	unused.close()
	bounded, cancel := context.WithTimeout(context.WithoutCancel(ctx), grace)
	defer cancel()
	if err := server.Shutdown(bounded); err != nil {
		return errors.Join(fmt.Errorf("cannot let all requests finish: %w", err), server.Close())
	}
	return nil
}

// connections holds the connections without a request. Shutdown would wait five seconds for them,
// and clients keep some in reserve.
type connections struct {
	mu    sync.Mutex
	all   map[net.Conn]bool
	ended bool
}

// follow is the ConnState hook of the server.
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

// close closes the connections, and those that are opened later.
func (c *connections) close() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.ended = true
	for conn := range c.all {
		_ = conn.Close()
	}
}

// Close removes all devices and unlocks the directory. The server must have stopped serving.
func (s *Server) Close() error {
	s.end()
	return s.cloud.Close()
}

// temporary creates a temporary file for a disk.
func (s *Server) temporary() (*os.File, error) {
	if err := os.MkdirAll(s.tmp, 0o700); err != nil {
		return nil, fmt.Errorf("cannot make a temporary file: %w", err)
	}
	return os.CreateTemp(s.tmp, "disk-*")
}
