package amazon

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"

	"github.com/packer-chroot/packer-plugin-chroot/amazon/ebsdirect"
	"github.com/packer-chroot/packer-plugin-chroot/bake"
	"github.com/packer-chroot/packer-plugin-chroot/retry"
)

// Cloud is bake's view of EC2, for one build.
type Cloud struct {
	client *Client
	config *Config
	// log, if not nil, is told of choices that the user need not make.
	log    func(format string, args ...any)
	family *family
	now    func() time.Time

	begun retry.Begun[string] // creating calls without a client token

	mu      sync.Mutex
	unseen  map[string]time.Time   // resources that EC2 has created and not shown yet
	guarded map[string]bool        // images that Publish has protected
	listed  map[string]types.Image // images that Named has read, until Record asks for them

	unbilled unbilled // the registered image, until its billing is compared
	// keys holds how volumes are encrypted that this Cloud has created, for errors.
	keys map[bake.VolumeID]bake.Encryption
	// started holds the snapshots that this Cloud has started.
	started map[bake.SnapshotID]ebsdirect.Started

	// ebs returns the client of the EBS direct APIs.
	ebs func() *ebsdirect.Client
}

var _ bake.Cloud = (*Cloud)(nil)

// NewCloud returns the Cloud of one build. The zero Config does for undoing another build.
func NewCloud(client *Client, config *Config, log func(format string, args ...any)) *Cloud {
	return &Cloud{
		client:  client,
		config:  config,
		log:     log,
		family:  &family{members: map[string]*Cloud{}},
		now:     time.Now,
		unseen:  map[string]time.Time{},
		guarded: map[string]bool{},
		listed:  map[string]types.Image{},
		keys:    map[bake.VolumeID]bake.Encryption{},
		started: map[bake.SnapshotID]ebsdirect.Started{},
		ebs:     sync.OnceValue(client.blockClient),
	}
}

func (c *Cloud) logf(format string, args ...any) {
	if c.log != nil {
		c.log(format, args...)
	}
}

// Host asks the metadata service for the ID of this instance, and EC2 for its attachments.
func (c *Cloud) Host(ctx context.Context) (bake.Host, error) {
	here, err := c.client.identity(ctx)
	if err != nil {
		return bake.Host{}, err
	}
	account, instance, err := c.client.instance(ctx, here)
	if err != nil {
		return bake.Host{}, err
	}
	host := bake.Host{
		ID: bake.HostID(here.instance), Account: account, Region: c.client.Region(), Zone: here.zone, Taken: takenDevices(instance),
		Cloud: c.client.cloud.String(), Architecture: string(instance.Architecture), Placement: aws.ToString(instance.OutpostArn),
	}
	if p := instance.Placement; p != nil && aws.ToString(p.AvailabilityZone) != "" {
		host.Zone = aws.ToString(p.AvailabilityZone)
	}
	if host.Zone == "" {
		return bake.Host{}, fmt.Errorf("neither the metadata nor EC2 say in which zone instance %s is", host.ID)
	}
	c.logOutpost(host)
	return host, nil
}

// instance reads this instance, and the account that owns it, from EC2.
func (c *Client) instance(ctx context.Context, here identity) (account string, found types.Instance, err error) {
	out, err := c.ec2.DescribeInstances(ctx, &ec2.DescribeInstancesInput{InstanceIds: []string{here.instance}})
	if err != nil && !hasCode(err, codeInstanceNotFound) {
		return "", types.Instance{}, c.cannot(err, "read instance %s", here.instance)
	}
	if err == nil {
		for _, r := range out.Reservations {
			if len(r.Instances) > 0 {
				return aws.ToString(r.OwnerId), r.Instances[0], nil
			}
		}
	}
	return "", types.Instance{}, fmt.Errorf("instance %s, which %s, is unknown in region %s: "+
		"check region, and that the access key belongs to the instance's account", here.instance, c.whoSays(here), c.Region())
}

// whoSays is where the id of this instance comes from.
func (c *Client) whoSays(here identity) string {
	if c.access.InstanceID != "" {
		return "instance_id says this is"
	}
	return fmt.Sprintf("the metadata say this is (in region %q)", here.region)
}

// takenDevices lists the device names that an instance uses.
func takenDevices(instance types.Instance) []bake.DeviceName {
	var names []bake.DeviceName
	for _, m := range instance.BlockDeviceMappings {
		if name := aws.ToString(m.DeviceName); name != "" {
			names = append(names, bake.DeviceName(name))
		}
	}
	return names
}

// DeviceNames lists the names that AWS recommends for EBS volumes, then those that work elsewhere
// than on Xen. Of the single letters, instance store's usual names (b to e) come last.
// Source: https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/device_naming.html
func (c *Cloud) DeviceNames() []bake.DeviceName {
	var names []bake.DeviceName
	for _, letter := range "fghijklmnopqrstuvwxyzbcde" {
		names = append(names, bake.DeviceName("/dev/sd"+string(letter)))
	}
	for letter := 'a'; letter <= 'z'; letter++ {
		names = append(names, bake.DeviceName("/dev/xvda"+string(letter)))
	}
	return names
}

// The time within which EC2 shows a new resource. Until then it may respond that there is no such
// resource.
// Source: https://docs.aws.amazon.com/ec2/latest/devguide/eventual-consistency.html
const visibleWithin = time.Minute

// newID returns the ID in the response of a creating call, and notes that EC2 may not show the
// resource yet. A response without an ID is an error.
func newID[ID ~string](c *Cloud, id *string, what string) (ID, error) {
	if aws.ToString(id) == "" {
		return "", fmt.Errorf("cannot %s: EC2 answered without an id", what)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.unseen[*id] = c.now().Add(visibleWithin)
	return ID(*id), nil
}

// shown forgets an ID that EC2 has shown, or that was removed: if it is unknown from now on, the
// resource is gone.
func (c *Cloud) shown(id string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.unseen, id)
}

// notShownYet reports whether an unknown id was made so lately that EC2 may not
// tell of it yet.
func (c *Cloud) notShownYet(id string, err error) bool {
	if !errors.Is(err, bake.ErrNotFound) {
		return false
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now().Before(c.unseen[id])
}
