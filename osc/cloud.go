package osc

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"

	api "github.com/outscale/osc-sdk-go/v3/pkg/osc"

	"github.com/packer-chroot/packer-plugin-chroot/bake"
	"github.com/packer-chroot/packer-plugin-chroot/retry"
)

// Cloud is Outscale as a build sees it.
type Cloud struct {
	config *Config
	client *Client
	// log, if not nil, is told of choices that differ from the user's words.
	log func(format string, args ...any)

	begun retry.Begun[imageKey] // calls of CreateImage

	mu sync.Mutex
	// copied holds the images that Copy made, by their source image.
	copied map[string]string
	// asked are the specifications that creating calls were made with, by build and
	// kind, in order: see clientToken.
	asked map[string][]string
}

var (
	_ bake.Cloud     = (*Cloud)(nil)
	_ bake.Publisher = (*Cloud)(nil)
)

// NewCloud returns the Cloud of one build. The zero Config does for undoing another build.
func NewCloud(client *Client, config *Config, log func(format string, args ...any)) *Cloud {
	return &Cloud{
		config: config, client: client, log: log,
		copied: map[string]string{}, asked: map[string][]string{},
	}
}

func (c *Cloud) logf(format string, args ...any) {
	if c.log != nil {
		c.log(format, args...)
	}
}

// Host asks the metadata service for the ID of this VM, unless vm_id gives it, and the API for the
// VM.
func (c *Cloud) Host(ctx context.Context) (bake.Host, error) {
	id, err := c.client.metadata.instanceID(ctx)
	if err != nil {
		return bake.Host{}, err
	}
	vm, err := c.readVM(ctx, id)
	if errors.Is(err, bake.ErrNotFound) {
		return bake.Host{}, fmt.Errorf("this is VM %s, as its metadata says, but account %s has no such VM in region %s: "+
			"are the keys those of the VM's account, and is the region right? %w", id, c.client.account, c.client.Region(), err)
	}
	if err != nil {
		return bake.Host{}, err
	}
	if n := len(vm.BlockDeviceMappings); n >= maxVolumes {
		return bake.Host{}, fmt.Errorf("VM %s has %d volumes, and cannot have more than %d: unlink one", id, n, maxVolumes)
	}
	return bake.Host{
		ID:      bake.HostID(id),
		Region:  c.client.Region(),
		Account: c.client.account,
		Cloud:   c.client.cloud.String(),
		Zone:    vm.Placement.SubregionName,
		Taken:   takenDevices(vm),
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

// pageSize is how many results a listing call asks for at a time: the most that the API takes.
var pageSize = 1000

// mostPages bounds a list. The API's pages have up to a thousand things.
const mostPages = 1000

// pages returns the entries of all pages of a reading action. A list that does not end is an error,
// because the missing entries would not be noticed.
func pages[T any](action string, read func(token *string) (items *[]T, next *string, err error)) ([]T, error) {
	var (
		all   []T
		token *string
	)
	for range mostPages {
		items, next, err := read(token)
		if err != nil {
			return nil, err
		}
		all = append(all, value(items)...)
		if value(next) == "" {
			return all, nil
		}
		if value(next) == value(token) {
			return nil, fmt.Errorf("%s repeats the page token %q", action, *next)
		}
		token = next
	}
	return nil, fmt.Errorf("%s has no end after %d pages", action, mostPages)
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

func tagsOf(tags []api.ResourceTag) map[string]string {
	m := make(map[string]string, len(tags))
	for _, t := range tags {
		m[t.Key] = t.Value
	}
	return m
}
