package ec2_test

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/credentials"
	sdk "github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"
	"github.com/aws/smithy-go"

	"github.com/packer-chroot/packer-plugin-chroot/loopcloud/ec2"
	"github.com/packer-chroot/packer-plugin-chroot/loopcloud/query/apitest"
	"github.com/packer-chroot/packer-plugin-chroot/loopcloud/sigv4"
	"github.com/packer-chroot/packer-plugin-chroot/loopcloud/state"
	"github.com/packer-chroot/packer-plugin-chroot/loopcloud/state/statetest"
	"github.com/packer-chroot/packer-plugin-chroot/sdkhttp"
	"github.com/packer-chroot/packer-plugin-chroot/testdir"
)

const (
	region = "eu-west-2"
	zone   = "eu-west-2a"
	other  = "us-east-1"

	alice  = "111111111111"
	bob    = "222222222222"
	amazon = "333333333333"
)

var keys = []state.Key{
	{ID: "AKIDALICE", Secret: "alice/secret", Account: alice},
	{ID: "AKIDBOB", Secret: "bob/secret", Account: bob},
	{ID: "AKIDAMAZON", Secret: "amazon/secret", Account: amazon},
}

// box is a cloud with an EC2 endpoint and a client for it.
type box struct {
	*testing.T
	st    *state.Cloud
	clock *statetest.Clock
	disks *statetest.Disks
	url   string
	// client is alice's, in the region.
	client *sdk.Client
}

func newBox(t *testing.T) *box { return newSlowBox(t, state.Timing{}) }

// newSlowBox is a cloud that takes time, on a clock that the test moves.
func newSlowBox(t *testing.T, timing state.Timing) *box {
	t.Helper()
	return newBoxOf(t, state.Config{Timing: timing})
}

// newBoxOf is a cloud of a configuration, which is completed.
func newBoxOf(t *testing.T, cfg state.Config) *box {
	t.Helper()
	b := &box{T: t, disks: statetest.NewDisks(), clock: statetest.NewClock(time.Date(2026, 3, 4, 5, 6, 7, 890_000_000, time.UTC))}
	cfg.Dir, cfg.Clock, cfg.Disks, cfg.Keys = testdir.New(t), b.clock.Now, b.disks, keys
	cfg.Accounts = []state.Account{{ID: alice}, {ID: bob}, {ID: amazon, Alias: "amazon"}}
	st, err := state.Open(cfg)
	if err != nil {
		t.Fatal(err)
	}
	model, err := apitest.Load()
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(model.Answers(t, ec2.New(st, sigv4.NewAuthorizer(st))))
	t.Cleanup(func() {
		server.Close()
		if err := st.Close(); err != nil {
			t.Error(err)
		}
	})
	b.st, b.url = st, server.URL
	b.client = b.as(alice, region)
	return b
}

// in is the box in a test within the test.
func (b *box) in(t *testing.T) *box {
	inner := *b
	inner.T = t
	return &inner
}

// as is a client of an account in a region.
func (b *box) as(account, region string) *sdk.Client {
	key := keys[slices.IndexFunc(keys, func(k state.Key) bool { return k.Account == account })]
	return sdk.New(sdk.Options{
		Region: region, BaseEndpoint: aws.String(b.url), Retryer: aws.NopRetryer{}, HTTPClient: sdkhttp.Safe(awshttp.NewBuildableClient()),
		Credentials: credentials.NewStaticCredentialsProvider(key.ID, key.Secret, ""),
	})
}

// host is the machine that volumes are attached to.
func (b *box) host() string {
	b.Helper()
	vm, ok := b.st.HostVM(region)
	if !ok {
		b.Fatal("there is no host")
	}
	return vm.ID
}

// must answers the value of a call that has to succeed.
func must[T any](value T, err error) func(*box) T {
	return func(b *box) T {
		b.Helper()
		if err != nil {
			b.Fatal(err)
		}
		return value
	}
}

// refused checks that a call was refused with a code, and with a message that has
// a text in it.
func (b *box) refused(err error, code string, parts ...string) {
	b.Helper()
	var api smithy.APIError
	if !errors.As(err, &api) {
		b.Errorf("got %v, want %s", err, code)
		return
	}
	if api.ErrorCode() != code {
		b.Errorf("got %s (%s), want %s", api.ErrorCode(), api.ErrorMessage(), code)
	}
	for _, part := range parts {
		if !strings.Contains(api.ErrorMessage(), part) {
			b.Errorf("%s: %q does not say %q", code, api.ErrorMessage(), part)
		}
	}
}

var ctx = context.Background()

// volume makes a volume of 8 GiB.
func (b *box) volume(tags ...types.Tag) string {
	b.Helper()
	in := &sdk.CreateVolumeInput{AvailabilityZone: aws.String(zone), Size: aws.Int32(8)}
	if len(tags) > 0 {
		in.TagSpecifications = []types.TagSpecification{{ResourceType: types.ResourceTypeVolume, Tags: tags}}
	}
	return *must(b.client.CreateVolume(ctx, in))(b).VolumeId
}

// snapshot makes a snapshot of a new volume.
func (b *box) snapshot() string {
	b.Helper()
	in := &sdk.CreateSnapshotInput{VolumeId: aws.String(b.volume())}
	return *must(b.client.CreateSnapshot(ctx, in))(b).SnapshotId
}

// image registers an image of a new snapshot.
func (b *box) image(name string, change ...func(*sdk.RegisterImageInput)) string {
	b.Helper()
	return *must(b.client.RegisterImage(ctx, b.imageInput(name, change...)))(b).ImageId
}

func (b *box) imageInput(name string, change ...func(*sdk.RegisterImageInput)) *sdk.RegisterImageInput {
	b.Helper()
	in := &sdk.RegisterImageInput{
		Name: aws.String(name), RootDeviceName: aws.String("/dev/sda1"),
		Architecture: types.ArchitectureValuesX8664, VirtualizationType: aws.String("hvm"),
		BlockDeviceMappings: []types.BlockDeviceMapping{{
			DeviceName: aws.String("/dev/sda1"), Ebs: &types.EbsBlockDevice{SnapshotId: aws.String(b.snapshot())},
		}},
	}
	for _, c := range change {
		c(in)
	}
	return in
}

// tag makes a tag.
func tag(key, value string) types.Tag {
	return types.Tag{Key: aws.String(key), Value: aws.String(value)}
}

// filter makes a filter.
func filter(name string, values ...string) types.Filter {
	return types.Filter{Name: aws.String(name), Values: values}
}

// ids answers the ids of things, sorted.
func ids[T any](things []T, id func(T) *string) []string {
	out := make([]string, len(things))
	for i, thing := range things {
		out[i] = aws.ToString(id(thing))
	}
	slices.Sort(out)
	return out
}

func sorted(s ...string) []string {
	slices.Sort(s)
	return s
}

var _ http.Handler = (*ec2.Handler)(nil)
