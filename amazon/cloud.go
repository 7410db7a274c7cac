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

	"github.com/packer-chroot/packer-plugin-chroot/bake"
)

// Options are what a Cloud knows beside what bake tells it.
type Options struct {
	Client *Client
	// ImageName is the name of the image to be; the volume that it is built on is
	// named after it.
	ImageName string

	// FromScratch says that there is no source image.
	FromScratch bool
	// SourceAMI is the id of the image to start from; unused from scratch. With
	// SourceFilter the image must fulfil both.
	SourceAMI string
	// SourceFilter looks for the image to start from.
	SourceFilter SourceFilter

	// What follows describes the image. Empty means the source's, and from scratch
	// EC2's default.

	// Architecture is such as x86_64 or arm64; from scratch it is the host's.
	Architecture string
	// VirtualizationType is hvm or paravirtual.
	VirtualizationType string
	// Repartitions says that pre_mount_commands are given, which can make an hvm image
	// of a paravirtual one.
	Repartitions bool
	// RootDeviceName is the image's root device, such as /dev/sda1 or xvda.
	RootDeviceName string
	// Mappings are the image's block devices. They replace the source's of the
	// same device name.
	Mappings []Mapping
	// ENASupport turns enhanced networking by ENA on or off; nil means the source's.
	ENASupport *bool
	// SRIOVSupport turns enhanced networking by SR-IOV on; it cannot be turned off.
	SRIOVSupport bool
	// BootMode is legacy-bios, uefi or uefi-preferred.
	BootMode string
	// UEFIData is the UEFI variable store, in base64, or "none".
	UEFIData string
	// TPMSupport is v2.0.
	TPMSupport string
	// IMDSSupport is v2.0.
	IMDSSupport string

	// RootVolumeEncrypt encrypts the volume that the image is built on, and with it
	// the image's root, under RootVolumeKMSKeyID; empty means the region's default
	// key.
	RootVolumeEncrypt  bool
	RootVolumeKMSKeyID string
	// EncryptBoot encrypts all of the image under KMSKeyID, and its copies in other
	// regions; nil and false leave everything as the source has it.
	EncryptBoot *bool
	KMSKeyID    string

	// Users (account ids), Groups ("all"), OrgARNs and OUARNs may launch the image.
	Users, Groups, OrgARNs, OUARNs []string
	// SnapshotUsers and SnapshotGroups may create volumes of its snapshots.
	SnapshotUsers, SnapshotGroups []string
	// ProductCodes are associated with the image.
	ProductCodes []string
	// DeprecateAt is when the image becomes deprecated; the zero time means never.
	DeprecateAt time.Time
	// DeregistrationProtection keeps the image from being deregistered; nil does
	// not.
	DeregistrationProtection *Protection

	// Regions are where the image is copied to. The build's own may be among them.
	Regions []string
	// RegionKMSKeyIDs are the keys of the copies' snapshots, by region; an empty one
	// means the region's default key.
	RegionKMSKeyIDs map[string]string
	// SkipRegionValidation does not ask EC2 whether it knows the regions.
	SkipRegionValidation bool
	// SkipSaveBuildRegion leaves no image in the build's own region.
	SkipSaveBuildRegion bool
	// SnapshotCopyMinutes is within which time the copies' snapshots are to be
	// complete; 0 leaves it to EC2.
	SnapshotCopyMinutes int64

	// Log, if not nil, is told what a user need not know.
	Log func(format string, args ...any)
}

// SourceFilter is a search for the image to start from; the zero value is none.
type SourceFilter struct {
	// Filters are DescribeImages' own, by name. A value takes * and ?.
	Filters map[string]string
	// Owners are account ids, "self" and aliases such as amazon.
	Owners []string
	// MostRecent takes the newest of several images.
	MostRecent bool
	// IncludeDeprecated considers deprecated images too.
	IncludeDeprecated bool
}

// Protection keeps an image from being deregistered.
type Protection struct {
	// WithCooldown keeps the protection for 24 hours after it is turned off.
	WithCooldown bool
}

// Mapping is one block device of the image to be: an EBS volume, an instance
// store volume (VirtualName), or none (NoDevice).
// Source: https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_BlockDeviceMapping.html
type Mapping struct {
	DeviceName string
	// VirtualName is an instance store volume, such as ephemeral0.
	VirtualName string
	// SnapshotID is the volume's content; empty for a blank volume.
	SnapshotID string
	// VolumeType is such as gp3; empty means EC2's default.
	VolumeType string
	// KMSKeyID is the key of an Encrypted volume; empty means the account's default.
	KMSKeyID string
	// VolumeSizeGiB is in GiB; 0 means the snapshot's.
	VolumeSizeGiB int64
	// IOPS is for io1, io2 and gp3; 0 means the type's default.
	IOPS int64
	// Throughput is in MiB/s, for gp3; 0 means the type's default.
	Throughput          int64
	DeleteOnTermination bool
	// NoDevice suppresses the device.
	NoDevice  bool
	Encrypted bool
}

// Cloud is bake's view of EC2, for one build.
type Cloud struct {
	client *Client
	opts   Options
	family *family
	now    func() time.Time

	mu       sync.Mutex
	host     hostFacts            // what Host found
	source   *types.Image         // what Source found
	passing  bool                 // as Publication has said
	firmware *firmware            // what Publication has settled
	plan     bake.Publication     // what Publication has said, if the image is to be shared
	root     *encryptedVolume     // the volume to be, if Publication knows that it will be encrypted and shared
	begun    map[string]bool      // creating calls without a client token that were made
	unseen   map[string]time.Time // things that EC2 made, and has not yet told of
	guarded  map[string]bool      // images that Publish has protected

	unbilled string // what Register made, until its billing is compared

	listed map[string]types.Image // what Named has read, by id
}

var _ bake.Cloud = (*Cloud)(nil)

// NewCloud makes a Cloud for one build.
func NewCloud(opts Options) *Cloud {
	return &Cloud{
		client:  opts.Client,
		opts:    opts,
		family:  &family{members: map[string]*Cloud{}},
		now:     time.Now,
		begun:   map[string]bool{},
		unseen:  map[string]time.Time{},
		guarded: map[string]bool{},
		listed:  map[string]types.Image{},
	}
}

func (c *Cloud) logf(format string, args ...any) {
	if c.opts.Log != nil {
		c.opts.Log(format, args...)
	}
}

// Host asks the metadata who this instance is, and EC2 what is attached to it.
func (c *Cloud) Host(ctx context.Context) (bake.Host, error) {
	here, err := c.client.identity(ctx)
	if err != nil {
		return bake.Host{}, err
	}
	account, instance, err := c.client.instance(ctx, here)
	if err != nil {
		return bake.Host{}, err
	}
	c.mu.Lock()
	c.host = hostFacts{account: account, architecture: instance.Architecture, outpost: aws.ToString(instance.OutpostArn)}
	c.mu.Unlock()
	host := bake.Host{
		ID: bake.HostID(here.instance), Account: account, Region: c.client.Region(), Zone: here.zone, Taken: taken(instance),
		Cloud: c.client.cloud.String(),
	}
	if p := instance.Placement; p != nil && aws.ToString(p.AvailabilityZone) != "" {
		host.Zone = aws.ToString(p.AvailabilityZone)
	}
	if host.Zone == "" {
		return bake.Host{}, fmt.Errorf("neither the metadata nor EC2 say in which zone instance %s is", host.ID)
	}
	c.sayOutpost(host)
	return host, nil
}

// hostFacts are what is known of the host beside what bake needs; empty if EC2
// does not tell.
type hostFacts struct {
	account      string
	architecture types.ArchitectureValues
	outpost      string // its ARN; empty in a Region
}

// on is what is known of the host, as far as Host has found it.
func (c *Cloud) on() hostFacts {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.host
}

// instance reads this instance, and whose it is, from EC2.
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

// taken lists the device names that an instance uses.
func taken(instance types.Instance) []bake.DeviceName {
	var names []bake.DeviceName
	for _, m := range instance.BlockDeviceMappings {
		if name := aws.ToString(m.DeviceName); name != "" {
			names = append(names, bake.DeviceName(name))
		}
	}
	return names
}

// DeviceNames lists what AWS recommends for EBS volumes, then what works
// elsewhere than on Xen, instance store's usual names (b to e) last of the
// single letters.
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

// The time within which EC2 tells of what it has just made. Until then it may
// answer that there is no such thing.
// Source: https://docs.aws.amazon.com/ec2/latest/devguide/eventual-consistency.html
const visibleWithin = time.Minute

// made remembers the id that EC2 answered to a creating call, which was to do what.
// Without one there is no knowing what was made, if anything.
func made[ID ~string](c *Cloud, id *string, what string) (ID, error) {
	if aws.ToString(id) == "" {
		return "", fmt.Errorf("cannot %s: EC2 answered without an id", what)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.unseen[*id] = c.now().Add(visibleWithin)
	return ID(*id), nil
}

// seen forgets an id that was told of, or was removed: what is unknown from now
// on is gone.
func (c *Cloud) seen(id string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.unseen, id)
}

// onItsWay tells whether an unknown id was made so lately that EC2 may not
// tell of it yet.
func (c *Cloud) onItsWay(id string, err error) bool {
	if !errors.Is(err, bake.ErrNotFound) {
		return false
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now().Before(c.unseen[id])
}
