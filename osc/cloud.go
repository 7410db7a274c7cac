package osc

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"sync"

	api "github.com/outscale/osc-sdk-go/v3/pkg/osc"

	"github.com/packer-chroot/packer-plugin-chroot/bake"
)

// Options are what the user says that only Outscale understands.
type Options struct {
	Client *Client
	// ImageName is the name of the image to be.
	ImageName string
	// SourceOMI is the id of the image to start from; empty from scratch.
	SourceOMI   string
	FromScratch bool
	// VirtualizationType must be the source's, if it is given. Outscale has hvm only.
	VirtualizationType string
	// RootDeviceName is whatever the user calls the root device. The API takes
	// /dev/sda1 only, and gets that.
	RootDeviceName string
	// Mappings are merged over the source image's block devices.
	Mappings []Mapping
	// Region is the name of the region, for the artifact and the user's templates;
	// empty means the client's.
	Region string
	// Log, if not nil, is told what is done otherwise than the user wrote it.
	Log func(format string, args ...any)
}

// Validate finds what is wrong with the options before anything is reached. It
// needs no Client.
func (o Options) Validate() error {
	var errs []error
	switch o.VirtualizationType {
	case "", hvm:
	case "paravirtual":
		errs = append(errs, errors.New("omi_virtualization_type is paravirtual: Outscale has hvm only"))
	default:
		errs = append(errs, fmt.Errorf("omi_virtualization_type is %q: it can be hvm", o.VirtualizationType))
	}
	if root := withDev(o.RootDeviceName); root != "" && !firstDisk.MatchString(root) && !dataDevice.MatchString(root) {
		errs = append(errs, fmt.Errorf("root_device_name is %q: not the name of a disk, such as xvda", o.RootDeviceName))
	}
	seen := map[string]bool{}
	for i, m := range o.Mappings {
		name, check := kernelName(o.imageDevice(m.DeviceName)), m.check
		if name == kernelName(rootDevice) {
			check = m.checkRoot
		}
		if err := check(); err != nil {
			errs = append(errs, fmt.Errorf("omi_block_device_mappings[%d]: %w", i, err))
		}
		if seen[name] {
			errs = append(errs, fmt.Errorf("omi_block_device_mappings[%d]: device %s is there twice", i, m.DeviceName))
		}
		seen[name] = true
	}
	return errors.Join(errs...)
}

// imageDevice is the API's name of a device of the image that the user calls name.
func (o Options) imageDevice(name string) string {
	name = withDev(name)
	if firstDisk.MatchString(name) || o.RootDeviceName != "" && name == withDev(o.RootDeviceName) {
		return rootDevice
	}
	return name
}

func (o Options) log(format string, args ...any) {
	if o.Log != nil {
		o.Log(format, args...)
	}
}

// Cloud is Outscale as a build sees it.
type Cloud struct {
	opt    Options
	client *Client

	mu sync.Mutex
	// source is the source image with all that bake has no field for.
	source *api.Image
	// registering holds the images that CreateImage has been called for: it takes
	// no client token.
	registering map[imageKey]bool
}

var _ bake.Cloud = (*Cloud)(nil)

// NewCloud gives a build its cloud. The options are valid.
func NewCloud(o Options) *Cloud {
	if o.Region == "" && o.Client != nil {
		o.Region = o.Client.Region()
	}
	return &Cloud{opt: o, client: o.Client, registering: map[imageKey]bool{}}
}

// Host asks the metadata service which VM this is, and the API what it has.
func (c *Cloud) Host(ctx context.Context) (bake.Host, error) {
	id, err := c.client.metadata.instanceID(ctx)
	if err != nil {
		return bake.Host{}, err
	}
	vm, err := c.readVM(ctx, id)
	if errors.Is(err, bake.ErrNotFound) {
		return bake.Host{}, fmt.Errorf("this is VM %s, as its metadata says, but account %s has no such VM in region %s: "+
			"are the keys those of the VM's account, and is the region right? %w", id, c.client.account, c.opt.Region, err)
	}
	if err != nil {
		return bake.Host{}, err
	}
	return bake.Host{
		ID:     bake.HostID(id),
		Region: c.opt.Region,
		Zone:   vm.Placement.SubregionName,
		Taken:  takenDevices(vm),
	}, nil
}

func (c *Cloud) readVM(ctx context.Context, id string) (api.Vm, error) {
	got, err := readVMs.call(ctx, c.client, api.ReadVmsRequest{Filters: &api.FiltersVm{VmIds: &[]string{id}}})
	if err != nil {
		return api.Vm{}, fmt.Errorf("cannot read VM %s: %w", id, err)
	}
	for _, vm := range value(got.Vms) {
		if vm.VmId == id {
			return vm, nil
		}
	}
	return api.Vm{}, fmt.Errorf("VM %s: %w", id, bake.ErrNotFound)
}

// takenDevices lists the VM's devices under the cloud's names, and under the
// kernel's where they differ, for these are the names that are asked for.
func takenDevices(vm api.Vm) []bake.DeviceName {
	var taken []bake.DeviceName
	for _, m := range vm.BlockDeviceMappings {
		for _, n := range []string{m.DeviceName, kernelName(m.DeviceName)} {
			if d := bake.DeviceName(n); n != "" && !slices.Contains(taken, d) {
				taken = append(taken, d)
			}
		}
	}
	return taken
}

// pages collects what a reading call gives page by page.
func pages[T any](read func(token *string) (items *[]T, next *string, err error)) ([]T, error) {
	var (
		all   []T
		token *string
	)
	for {
		items, next, err := read(token)
		if err != nil {
			return nil, err
		}
		all = append(all, value(items)...)
		if value(next) == "" || value(next) == value(token) {
			return all, nil
		}
		token = next
	}
}

// tag writes tags on a thing. It can be repeated.
func (c *Cloud) tag(ctx context.Context, id string, tags map[string]string) error {
	if len(tags) == 0 {
		return nil
	}
	req := api.CreateTagsRequest{ResourceIds: []string{id}}
	for k, v := range tags {
		req.Tags = append(req.Tags, api.ResourceTag{Key: k, Value: v})
	}
	slices.SortFunc(req.Tags, func(a, b api.ResourceTag) int { return cmp.Compare(a.Key, b.Key) })
	if _, err := createTags.call(ctx, c.client, req); err != nil {
		return fmt.Errorf("cannot tag %s: %w", id, err)
	}
	return nil
}

func tagMap(tags []api.ResourceTag) map[string]string {
	m := make(map[string]string, len(tags))
	for _, t := range tags {
		m[t.Key] = t.Value
	}
	return m
}

// clientToken names one creating call. It begins with what tokenPrefix makes of
// the build; the rest is made of the specification, so that the same call gets
// the same token and another one another.
func clientToken(build bake.BuildID, kind string, spec ...any) string {
	return tokenPrefix(build) + digest(append([]any{kind}, spec...)...)
}

// tokenPrefix is how the tokens of a build's calls begin. By it is found what a
// build made and was killed before it could tag it.
func tokenPrefix(build bake.BuildID) string {
	return "packer-chroot-" + digest(build) + "-"
}

// digest is 16 hexadecimal digits: a token may have 64 characters.
func digest(values ...any) string {
	sum := sha256.Sum256(fmt.Appendf(nil, "%q", values))
	return hex.EncodeToString(sum[:8])
}
