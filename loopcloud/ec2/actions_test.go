package ec2_test

import (
	"net/http"
	"net/url"
	"reflect"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	sdk "github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"

	"github.com/packer-chroot/packer-plugin-chroot/loopcloud/ec2"
	"github.com/packer-chroot/packer-plugin-chroot/loopcloud/query/apitest"
	"github.com/packer-chroot/packer-plugin-chroot/loopcloud/state"
)

// call sends an action with parameters.
func (b *box) call(action string, params url.Values) (status int, body string) {
	b.Helper()
	params.Set("Action", action)
	params.Set("Version", "2016-11-15")
	status, body, _ = b.send(b.request(http.MethodPost, params.Encode()))
	return status, body
}

// TestUnknownFilters sends an unknown filter to every action with filters.
func TestUnknownFilters(t *testing.T) {
	b := newBox(t)
	tested := 0
	for _, action := range ec2.Actions() {
		if !ec2.Parameters(action).Has("Filter.1.Name") {
			continue
		}
		tested++
		params := ec2.RequiredParameters(action)
		params.Set("Filter.1.Name", "colour")
		params.Set("Filter.1.Value.1", "red")
		status, body := b.call(action, params)
		if status != http.StatusBadRequest || !strings.Contains(body, "<Code>InvalidParameterValue</Code><Message>The filter &#39;colour&#39; is invalid</Message>") {
			t.Errorf("%s: got %d %s", action, status, body)
		}
	}
	if tested < 8 {
		t.Errorf("only %d actions have filters", tested)
	}
}

// TestUnknownParameters sends the required parameters and an unknown one to every action.
func TestUnknownParameters(t *testing.T) {
	b := newBox(t)
	for _, action := range ec2.Actions() {
		params := ec2.RequiredParameters(action)
		params.Set("Colour", "red")
		status, body := b.call(action, params)
		if status != http.StatusBadRequest || !strings.Contains(body, "<Code>UnknownParameter</Code><Message>The parameter Colour is not recognized<") {
			t.Errorf("%s: got %d %s", action, status, body)
		}
	}
}

// TestMissingParameters omits each required parameter of every action.
func TestMissingParameters(t *testing.T) {
	b := newBox(t)
	for _, action := range ec2.Actions() {
		for missing := range ec2.RequiredParameters(action) {
			params := ec2.RequiredParameters(action)
			params.Del(missing)
			list, _, _ := strings.Cut(missing, ".1")
			status, body := b.call(action, params)
			if status != http.StatusBadRequest || !strings.Contains(body, "<Code>MissingParameter</Code><Message>The request must contain the parameter "+list+"<") {
				t.Errorf("%s without %s: got %d %s", action, missing, status, body)
			}
		}
	}
}

// TestParametersOfTheModel checks that the model of the API has every action, and every
// parameter that it accepts. The sample values need not be valid.
func TestParametersOfTheModel(t *testing.T) {
	model, err := apitest.Load()
	if err != nil {
		t.Fatal(err)
	}
	for _, action := range ec2.Actions() {
		params := ec2.Parameters(action)
		params.Set("Action", action)
		params.Set("Version", "2016-11-15")
		params.Del("DestinationRegion") // the SDK sets it itself
		if err := model.Request(params); err != nil {
			for line := range strings.Lines(err.Error()) {
				if strings.Contains(line, "has no") {
					t.Errorf("%s: %s", action, line)
				}
			}
		}
	}
}

// dryRuns returns a request for every action. It has the required parameters of the action, and
// those that a request needs besides them.
func (b *box) dryRuns() map[string]url.Values {
	b.Helper()
	volume, image, linked := b.volume(), b.image("taken"), b.volume()
	must(b.client.AttachVolume(ctx, &sdk.AttachVolumeInput{VolumeId: &linked, InstanceId: aws.String(b.host()), Device: aws.String("/dev/sdx")}))(b)
	uefi := b.image("uefi", func(in *sdk.RegisterImageInput) { in.BootMode = types.BootModeValuesUefi })
	run := must(b.client.RunInstances(ctx, &sdk.RunInstancesInput{ImageId: &uefi, MinCount: aws.Int32(1), MaxCount: aws.Int32(1)}))(b)
	instance := *run.Instances[0].InstanceId
	values := map[string]string{
		"VolumeId": volume, "SnapshotId": b.snapshot(), "ImageId": image, "InstanceId": instance, "InstanceId.1": instance,
		"SourceImageId": image, "SourceSnapshotId": b.snapshot(), "SourceRegion": region, "AvailabilityZone": zone, "Device": "/dev/sdf",
		"Name": "free", "KmsKeyId": "alias/mine", "Attribute": "launchPermission", "State": "block-all-sharing", "ImageBlockPublicAccessState": "block-new-sharing", "AllowedImagesSettingsState": "enabled",
	}
	own := map[string]map[string]string{
		"CreateVolume":                  {"Size": "1"},
		"AttachVolume":                  {"InstanceId": b.host()},
		"ModifyVolume":                  {"Size": "9"},
		"DetachVolume":                  {"VolumeId": linked},
		"DescribeSnapshotAttribute":     {"Attribute": "createVolumePermission"},
		"ModifySnapshotAttribute":       {"OperationType": "add", "UserId.1": bob},
		"ModifyImageAttribute":          {"Description.Value": "new"},
		"ModifyInstanceMetadataOptions": {"HttpTokens": "required"},
		"CreateTags":                    {"ResourceId.1": volume, "Tag.1.Key": "x"},
		"DeleteTags":                    {"ResourceId.1": volume, "Tag.1.Key": "x"},
		"RegisterImage":                 {"RootDeviceName": "/dev/sda1", "BlockDeviceMapping.1.DeviceName": "/dev/sda1", "BlockDeviceMapping.1.Ebs.SnapshotId": values["SnapshotId"]},
	}
	requests := map[string]url.Values{}
	for _, action := range ec2.Actions() {
		params := ec2.RequiredParameters(action)
		for name := range params {
			if value, ok := values[name]; ok {
				params.Set(name, value)
			}
		}
		for name, value := range own[action] {
			params.Set(name, value)
		}
		params.Set("DryRun", "true")
		requests[action] = params
	}
	return requests
}

// TestDryRun checks that a dry run that would succeed returns the error for dry runs, and
// changes nothing.
func TestDryRun(t *testing.T) {
	b := newBox(t)
	requests := b.dryRuns()
	before := b.everything()
	for action, params := range requests {
		if status, body := b.call(action, params); status != http.StatusPreconditionFailed || !strings.Contains(body, "<Code>DryRunOperation</Code>") {
			t.Errorf("%s: got %d %s", action, status, body)
		}
	}
	if after := b.everything(); !reflect.DeepEqual(before, after) {
		t.Errorf("before: %v\nafter: %v", before, after)
	}
}

// everything returns the resources and the settings of alice.
func (b *box) everything() []any {
	caller := state.Caller{Account: alice, Region: region}
	return []any{b.st.Volumes(caller), b.st.Snapshots(caller), b.st.Images(caller), b.st.Tags(caller), b.st.VMs(caller), b.st.Settings(caller)}
}
