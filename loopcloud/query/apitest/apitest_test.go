package apitest_test

import (
	"errors"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/packer-chroot/packer-plugin-chroot/loopcloud/query/apitest"
)

const (
	ec2 = "2016-11-15"
	sts = "2011-06-15"
)

// TestRequest tests valid requests of both APIs, and each kind of error.
func TestRequest(t *testing.T) {
	m, err := apitest.Load()
	if err != nil {
		t.Fatal(err)
	}
	const (
		volume   = "Action=CreateVolume&AvailabilityZone=a&Size=1"
		register = "Action=RegisterImage&Name=abc"
		assume   = "Action=AssumeRole&RoleArn=arn:aws:iam::123456789012:role/a&RoleSessionName=abc"
	)
	for _, test := range []struct {
		name, version, form string
		// wrong is a part of the error, empty if there must be none.
		wrong string
	}{
		{"a call", ec2, volume + "&VolumeType=gp3&Encrypted=true", ""},
		{"lists and structures", ec2, register + "&BlockDeviceMapping.1.DeviceName=a&BlockDeviceMapping.2.Ebs.VolumeSize=4&BlockDeviceMapping.2.Ebs.Encrypted=false", ""},
		{"an empty string", ec2, register + "&BlockDeviceMapping.1.NoDevice=", ""},
		{"a tag", ec2, volume + "&TagSpecification.1.ResourceType=volume&TagSpecification.1.Tag.1.Key=k&TagSpecification.1.Tag.1.Value=", ""},
		{"a time", ec2, "Action=EnableImageDeprecation&ImageId=ami-1&DeprecateAt=2030-01-02T03:04:05Z", ""},
		{"a filter", ec2, "Action=DescribeImages&Filter.1.Name=name&Filter.1.Value.1=a&Filter.2.Name=tag:team", ""},
		{"another API", sts, assume + "&Tags.member.1.Key=k&Tags.member.1.Value=v&DurationSeconds=900", ""},
		{"no such version", "2001-01-01", volume, "no API has the version"},
		{"no such call", ec2, "Action=EatVolume", "no call"},
		{"a call of the other API", sts, volume, "no call"},
		{"an unknown parameter", ec2, volume + "&Colour=red", "no parameter Colour"},
		{"an unknown parameter further down", ec2, register + "&BlockDeviceMapping.1.Ebs.Colour=red", "no parameter BlockDeviceMapping.1.Ebs.Colour"},
		{"a parameter of another call", ec2, volume + "&ImageId=ami-1", "no parameter ImageId"},
		{"another case", ec2, "Action=DeleteVolume&volumeId=vol-1", "no parameter volumeId"},
		{"a list that is none", ec2, register + "&Name.1=x", "no parameter Name.1"},
		{"a list from 0", ec2, register + "&BlockDeviceMapping.0.DeviceName=a", "begins at 1"},
		{"a list with a gap", ec2, register + "&BlockDeviceMapping.3.DeviceName=a&BlockDeviceMapping.1.DeviceName=b&BlockDeviceMapping.1.NoDevice=", ""},
		{"a number that is none", ec2, "Action=CreateVolume&AvailabilityZone=a&Size=big", "Size"},
		{"a number that is too large", ec2, "Action=CreateVolume&AvailabilityZone=a&Size=5000000000", "Size"},
		{"a number as nobody writes it", ec2, "Action=CreateVolume&AvailabilityZone=a&Size=007", `written ["7"]`},
		{"a truth that is none", ec2, volume + "&Encrypted=yes", "Encrypted"},
		{"a time that is none", ec2, "Action=EnableImageDeprecation&ImageId=ami-1&DeprecateAt=tomorrow", "DeprecateAt"},
		{"a value outside of its enumeration", ec2, volume + "&VolumeType=gp9", `VolumeType is "gp9"`},
		{"one further down", ec2, volume + "&TagSpecification.1.ResourceType=volum", `ResourceType is "volum"`},
		{"a value outside of its documented set", ec2, register + "&VirtualizationType=pv", `VirtualizationType is "pv"`},
		{"a required parameter is missing", ec2, "Action=DeleteVolume", "VolumeId"},
		{"one further down is missing", sts, assume + "&Tags.member.1.Key=k", "Tags[0].Value"},
		{"a filter that is not documented", ec2, "Action=DescribeImages&Filter.1.Name=colour&Filter.1.Value.1=a", `"colour", which is not a documented filter`},
		{"given twice", ec2, volume + "&Size=2", "2 times"},
		{"out of range", sts, assume + "&DurationSeconds=1", "outside of the limits 900…43200"},
		{"too long", ec2, register + "&UefiData=" + strings.Repeat("x", 64001), "outside of the limits"},
		{"not of the pattern", sts, assume + "&ExternalId=a%20b", "does not match"},
	} {
		t.Run(test.name, func(t *testing.T) {
			form, err := url.ParseQuery(test.form + "&Version=" + test.version)
			if err != nil {
				t.Fatal(err)
			}
			err = m.Request(form)
			if test.wrong == "" && err != nil || test.wrong != "" && (err == nil || !strings.Contains(err.Error(), test.wrong)) {
				t.Errorf("the error is %v, and should say %q", err, test.wrong)
			}
		})
	}
}

// TestAnswer tests valid responses, and each kind of error.
func TestAnswer(t *testing.T) {
	m, err := apitest.Load()
	if err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		name, version, call string
		status              int
		body                string
		wrong               string
	}{
		{"a volume", ec2, "CreateVolume", 200, `<CreateVolumeResponse xmlns="x"><requestId>r</requestId><volumeId>vol-1</volumeId><size>4</size><status>creating</status><tagSet><item><key>a</key><value/></item></tagSet></CreateVolumeResponse>`, ""},
		{"nothing but success", ec2, "DeleteVolume", 200, `<DeleteVolumeResponse><requestId>r</requestId><return>true</return></DeleteVolumeResponse>`, ""},
		{"of the other API", sts, "GetCallerIdentity", 200, `<GetCallerIdentityResponse><GetCallerIdentityResult><Arn>a</Arn></GetCallerIdentityResult><ResponseMetadata><RequestId>r</RequestId></ResponseMetadata></GetCallerIdentityResponse>`, ""},
		{"a refusal", ec2, "CreateVolume", 400, `<Response><Errors><Error><Code>InvalidParameter</Code><Message>m</Message></Error></Errors><RequestID>r</RequestID></Response>`, ""},
		{"a refusal without a code", ec2, "CreateVolume", 400, `<Response><Errors></Errors></Response>`, "CreateVolume"},
		{"another root", ec2, "CreateVolume", 200, `<CreateVolumesResponse><volumeId>vol-1</volumeId></CreateVolumesResponse>`, "root"},
		{"an unknown element", ec2, "CreateVolume", 200, `<CreateVolumeResponse><colour>red</colour></CreateVolumeResponse>`, "element colour"},
		{"an unknown element in a list", ec2, "CreateVolume", 200, `<CreateVolumeResponse><tagSet><item><key>k</key><colour>red</colour></item></tagSet></CreateVolumeResponse>`, "element tagSet/item/colour"},
		{"a list without items", ec2, "CreateVolume", 200, `<CreateVolumeResponse><tagSet><tag><key>k</key></tag></tagSet></CreateVolumeResponse>`, "element tagSet/tag/key"},
		{"a number that is none", ec2, "CreateVolume", 200, `<CreateVolumeResponse><size>big</size></CreateVolumeResponse>`, `parsing "big"`},
		{"a state that is none", ec2, "CreateVolume", 200, `<CreateVolumeResponse><status>tired</status></CreateVolumeResponse>`, `"tired" is no VolumeState`},
		{"no XML", ec2, "CreateVolume", 200, `{"VolumeId": "vol-1"}`, "CreateVolume"},
	} {
		t.Run(test.name, func(t *testing.T) {
			err := m.Answer(test.version, test.call, test.status, []byte(test.body))
			if test.wrong == "" && err != nil || test.wrong != "" && (err == nil || !strings.Contains(err.Error(), test.wrong)) {
				t.Errorf("the error is %v, and should say %q", err, test.wrong)
			}
		})
	}
}

// TestParameters tests the parameters of calls with many of them.
func TestParameters(t *testing.T) {
	m, err := apitest.Load()
	if err != nil {
		t.Fatal(err)
	}
	for _, call := range []string{"CreateVolume", "AttachVolume", "RegisterImage", "CopyImage", "DescribeInstances", "ModifyImageAttribute", "RunInstances"} {
		err := m.Request(url.Values{"Action": {call}, "Version": {ec2}, "DryRun": {"true"}, "No": {"x"}})
		if err == nil || !strings.Contains(err.Error(), "no parameter No") || strings.Contains(err.Error(), "DryRun") {
			t.Errorf("%s: %v", call, err)
		}
	}
}

// failures records reported errors.
type failures struct{ texts []string }

func (*failures) Helper()                          {}
func (f *failures) Errorf(format string, _ ...any) { f.texts = append(f.texts, format) }

// TestHandlers checks that the handlers report an invalid request and an invalid response.
func TestHandlers(t *testing.T) {
	m, err := apitest.Load()
	if err != nil {
		t.Fatal(err)
	}
	next := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.FormValue("Size") == "" {
			t.Error("the body is gone")
		}
		_, _ = w.Write([]byte("<CreateVolumeResponse><colour>red</colour></CreateVolumeResponse>"))
	})
	var f failures
	m.Requests(&f, m.Answers(&f, next)).ServeHTTP(new(nobody), request("Action=CreateVolume&Size=1&Colour=red&Version="+ec2))
	if len(f.texts) != 2 {
		t.Errorf("%d failures are reported: %q", len(f.texts), f.texts)
	}
}

// TestClientThatGoesAway checks that a client that disconnects during a request is not an
// error in the request.
func TestClientThatGoesAway(t *testing.T) {
	m, err := apitest.Load()
	if err != nil {
		t.Fatal(err)
	}
	r := request("Action=CreateVolume")
	r.Body = io.NopCloser(iotest.ErrReader(io.ErrUnexpectedEOF))
	var f failures
	defer func() {
		if end, _ := recover().(error); !errors.Is(end, http.ErrAbortHandler) || len(f.texts) > 0 {
			t.Errorf("it ends with %v, and failures %q", end, f.texts)
		}
	}()
	m.Requests(&f, http.NotFoundHandler()).ServeHTTP(new(nobody), r)
}

func request(form string) *http.Request {
	r, _ := http.NewRequest(http.MethodPost, "/", strings.NewReader(form))
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	return r
}

// nobody is a client that reads nothing.
type nobody struct{}

func (*nobody) Header() http.Header         { return http.Header{} }
func (*nobody) Write(p []byte) (int, error) { return len(p), nil }
func (*nobody) WriteHeader(int)             {}
