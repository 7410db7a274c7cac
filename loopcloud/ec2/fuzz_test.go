package ec2_test

import (
	"encoding/xml"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/packer-chroot/packer-plugin-chroot/loopcloud/ec2"
	"github.com/packer-chroot/packer-plugin-chroot/loopcloud/state"
	"github.com/packer-chroot/packer-plugin-chroot/loopcloud/state/statetest"
	"github.com/packer-chroot/packer-plugin-chroot/testdir"
)

// FuzzAnyRequest: every sequence of forms gets XML responses, none of which is an internal error.
func FuzzAnyRequest(f *testing.F) {
	for _, seed := range []string{
		"Action=CreateVolume&AvailabilityZone=eu-west-2a&Size=1&ClientToken=t\nAction=DescribeVolumes\nAction=CreateVolume&AvailabilityZone=eu-west-2a&Size=1&ClientToken=t",
		"Action=CreateVolume&AvailabilityZone=eu-west-2a&VolumeType=io2&Size=4&Iops=9223372036854775807",
		"Action=CreateVolume&AvailabilityZone=eu-west-2a&VolumeType=gp3&Size=9223372036854775807&Throughput=-1",
		"Action=RegisterImage&Name=abc&RootDeviceName=/dev/sda1&BlockDeviceMapping.1.DeviceName=/dev/sda1&BlockDeviceMapping.1.Ebs.VolumeSize=1\nAction=DescribeImages&Owner.1=self",
		"Action=DescribeImages&Filter.1.Name=tag:a&Filter.1.Value.1=*\\\nAction=DescribeImages&MaxResults=1&NextToken=x",
		"Action=CopyImage&SourceImageId=ami-00000001&SourceRegion=us-east-1&Name=abc&Encrypted=true&KmsKeyId=alias/x",
		"Action=CopySnapshot&SourceRegion=eu-west-2&SourceSnapshotId=snap-00000001&PresignedUrl=http://%zz",
		"Action=RunInstances&ImageId=ami-00000001&MinCount=1&MaxCount=100\nAction=DescribeInstances",
		"Action=CreateTags&ResourceId.1=vol-00000001&Tag.1.Key=k\nAction=DescribeTags",
		"Action=EnableImageDeprecation&ImageId=ami-00000001&DeprecateAt=9999-12-31T23:59:59Z",
		"Action=ModifyImageAttribute&ImageId=ami-00000001&LaunchPermission.Add.1.UserId=1",
		"Action=DescribeRegions&AllRegions=true\nAction=DescribeAvailabilityZones",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, forms string) {
		st, err := state.Open(state.Config{
			Dir: testdir.New(t), Disks: statetest.NewDisks(), NewID: statetest.CountingIDs(),
			Clock: statetest.NewClock(time.Date(2026, 3, 4, 5, 6, 7, 0, time.UTC)).Now,
		})
		if err != nil {
			t.Fatal(err)
		}
		defer st.Close()
		h := ec2.New(st, func(*http.Request, []byte, string) (state.Caller, error) {
			return state.Caller{Account: state.DefaultAccount, Region: region}, nil
		})
		for form := range strings.SplitSeq(forms, "\n") {
			w := httptest.NewRecorder()
			h.ServeHTTP(w, httptest.NewRequest(http.MethodPost, "/", strings.NewReader(form+"&Version=2016-11-15")))
			if w.Code >= 500 {
				t.Errorf("%q: %d %s", form, w.Code, w.Body)
			}
			wellFormed(t, form, w.Body)
		}
	})
}

func wellFormed(t *testing.T, form string, body io.Reader) {
	t.Helper()
	for dec := xml.NewDecoder(body); ; {
		_, err := dec.Token()
		if errors.Is(err, io.EOF) {
			return
		}
		if err != nil {
			t.Fatalf("%q: the answer is no XML: %v", form, err)
		}
	}
}
