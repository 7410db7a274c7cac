package ec2_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/signer/v4"

	"github.com/packer-chroot/packer-plugin-chroot/loopcloud/ec2"
	"github.com/packer-chroot/packer-plugin-chroot/loopcloud/sigv4"
	"github.com/packer-chroot/packer-plugin-chroot/loopcloud/wire"
)

// request returns a signed request with a body or, for a GET, a query.
func (b *box) request(method, params string) *http.Request {
	b.Helper()
	target, body := b.url+"/", params
	if method == http.MethodGet {
		target, body = target+"?"+params, ""
	}
	r, err := http.NewRequestWithContext(ctx, method, target, strings.NewReader(body))
	if err != nil {
		b.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded; charset=utf-8")
	b.sign(r, body, time.Now())
	return r
}

func (b *box) sign(r *http.Request, body string, at time.Time) {
	b.Helper()
	sum := sha256.Sum256([]byte(body))
	pair := aws.Credentials{AccessKeyID: keys[0].ID, SecretAccessKey: keys[0].Secret}
	if err := v4.NewSigner().SignHTTP(ctx, pair, r, hex.EncodeToString(sum[:]), "ec2", region, at); err != nil {
		b.Fatal(err)
	}
}

// send returns the status and the body, with all request IDs replaced.
func (b *box) send(r *http.Request) (int, string, http.Header) {
	b.Helper()
	response, err := http.DefaultClient.Do(r)
	if err != nil {
		b.Fatal(err)
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		b.Fatal(err)
	}
	id := response.Header.Get("X-Amzn-Requestid")
	if !regexp.MustCompile(`^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$`).MatchString(id) {
		b.Errorf("request id %q", id)
	}
	return response.StatusCode, strings.ReplaceAll(string(text), id, "ID"), response.Header
}

const head = `<?xml version="1.0" encoding="UTF-8"?>` + "\n"

func TestWireAnswers(t *testing.T) {
	b := newBox(t)
	const open = ` xmlns="http://ec2.amazonaws.com/doc/2016-11-15/"><requestId>ID</requestId>`
	volume := b.volume(tag("a&b", "<c>"))
	for params, want := range map[string]string{
		"Action=DescribeRegions&RegionName.1=eu-west-2": `<DescribeRegionsResponse` + open +
			`<regionInfo><item><regionName>eu-west-2</regionName><regionEndpoint>ec2.eu-west-2.amazonaws.com</regionEndpoint><optInStatus>opt-in-not-required</optInStatus></item></regionInfo></DescribeRegionsResponse>`,
		"Action=DescribeImages": `<DescribeImagesResponse` + open + `<imagesSet></imagesSet></DescribeImagesResponse>`,
		"Action=DescribeVolumes&VolumeId.1=" + volume: `<DescribeVolumesResponse` + open + `<volumeSet><item><volumeId>` + volume + `</volumeId><size>8</size><snapshotId></snapshotId>` +
			`<availabilityZone>eu-west-2a</availabilityZone><availabilityZoneId>euw2-az1</availabilityZoneId><status>available</status><createTime>2026-03-04T05:06:07.890Z</createTime><attachmentSet></attachmentSet>` +
			`<tagSet><item><key>a&amp;b</key><value>&lt;c&gt;</value></item></tagSet><volumeType>gp2</volumeType><iops>100</iops><encrypted>false</encrypted><multiAttachEnabled>false</multiAttachEnabled><fastRestored>false</fastRestored></item></volumeSet></DescribeVolumesResponse>`,
		"Action=DeleteTags&ResourceId.1=" + b.volume(): `<DeleteTagsResponse` + open + `<return>true</return></DeleteTagsResponse>`,
	} {
		methods := []string{http.MethodPost, http.MethodGet}
		for _, method := range methods {
			status, body, header := b.send(b.request(method, params+"&Version=2016-11-15"))
			if status != http.StatusOK || body != head+want {
				t.Errorf("%s %s: got %d %s\nwant %s", method, params, status, body, want)
			}
			if got := header.Get("Content-Type"); got != "text/xml;charset=UTF-8" {
				t.Errorf("content type %q", got)
			}
		}
	}
}

func TestWireErrors(t *testing.T) {
	b := newBox(t)
	for _, test := range []struct {
		params string
		status int
		want   string
	}{
		{"Version=2016-11-15", 400, "<Code>MissingAction</Code><Message>The request must contain the parameter Action</Message>"},
		{"Action=DescribeRegions", 400, "<Code>MissingParameter</Code><Message>The request must contain the parameter Version</Message>"},
		{"Action=DescribeRegions&Version=2006-06-26", 400, "<Code>NoSuchVersion</Code><Message>The requested version (2006-06-26) of service AmazonEC2 does not exist</Message>"},
		{"Action=FlyToMars&Version=2016-11-15", 400, "<Code>InvalidAction</Code><Message>The action FlyToMars is not valid for this web service.</Message>"},
		{"Action=DescribeRegions&Version=2016-11-15&Colour=red", 400, "<Code>UnknownParameter</Code><Message>The parameter Colour is not recognized</Message>"},
		{"Action=DescribeRegions&Version=2016-11-15&DryRun=true", 412, "<Code>DryRunOperation</Code><Message>Request would have succeeded, but DryRun flag is set.</Message>"},
		{"Action=DeleteVolume&Version=2016-11-15", 400, "<Code>MissingParameter</Code><Message>The request must contain the parameter VolumeId</Message>"},
		{"Action=%zz", 400, "<Code>MalformedQueryString</Code><Message>The request body contains a syntax error.</Message>"},
	} {
		status, body, _ := b.send(b.request(http.MethodPost, test.params))
		if want := head + "<Response><Errors><Error>" + test.want + "</Error></Errors><RequestID>ID</RequestID></Response>"; status != test.status || body != want {
			t.Errorf("%s: got %d %s\nwant %s", test.params, status, body, want)
		}
	}
}

func TestWireSignatures(t *testing.T) {
	b := newBox(t)
	const params = "Action=DescribeRegions&Version=2016-11-15"
	for name, test := range map[string]struct {
		change func(*http.Request)
		status int
		code   string
	}{
		"none":      {func(r *http.Request) { r.Header.Del("Authorization") }, 403, "MissingAuthenticationToken"},
		"malformed": {func(r *http.Request) { r.Header.Set("Authorization", "AWS4-HMAC-SHA256 x") }, 400, "IncompleteSignature"},
		"expired":   {func(r *http.Request) { b.sign(r, params, time.Now().Add(-time.Hour)) }, 400, "RequestExpired"},
		"unknown key": {func(r *http.Request) {
			r.Header.Set("Authorization", strings.Replace(r.Header.Get("Authorization"), "AKIDALICE", "AKIDNOBODY", 1))
		}, 401, "AuthFailure"},
		"other query": {func(r *http.Request) { r.URL.RawQuery = "DryRun=true" }, 401, "AuthFailure"},
	} {
		t.Run(name, func(t *testing.T) {
			b := b.in(t)
			r := b.request(http.MethodPost, params)
			test.change(r)
			status, body, _ := b.send(r)
			if status != test.status || !strings.Contains(body, "<Code>"+test.code+"</Code>") {
				t.Errorf("got %d %s", status, body)
			}
		})
	}
	_, err := b.as(alice, "mars-1").DescribeRegions(ctx, nil)
	b.refused(err, "AuthFailure", "not able to validate")
}

// TestPresigned sends a whole request as a presigned URL.
func TestPresigned(t *testing.T) {
	b := newBox(t)
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, b.url+"/?Action=DescribeRegions&Version=2016-11-15&X-Amz-Expires=60", nil)
	if err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256(nil)
	pair := aws.Credentials{AccessKeyID: keys[0].ID, SecretAccessKey: keys[0].Secret}
	address, _, err := v4.NewSigner().PresignHTTP(ctx, pair, r, hex.EncodeToString(sum[:]), "ec2", region, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	for target, want := range map[string]int{address: http.StatusOK, address + "&DryRun=true": http.StatusUnauthorized} {
		if r, err = http.NewRequestWithContext(ctx, http.MethodGet, target, nil); err != nil {
			t.Fatal(err)
		}
		if status, body, _ := b.send(r); status != want {
			t.Errorf("%s: got %d %s", target, status, body)
		}
	}
}

// TestFault checks that an internal error of loopcloud is not a refusal.
func TestFault(t *testing.T) {
	b := newBox(t)
	b.disks.Fail("CreateVolume", errors.New("no space left"))
	status, body, _ := b.send(b.request(http.MethodPost, "Action=CreateVolume&Version=2016-11-15&Size=1&AvailabilityZone="+zone))
	if status != http.StatusInternalServerError || !strings.Contains(body, "<Code>InternalError</Code>") || !strings.Contains(body, "no space left") {
		t.Errorf("got %d %s", status, body)
	}
}

func TestTooLarge(t *testing.T) {
	b := newBox(t)
	status, body, _ := b.send(b.request(http.MethodPost, "Action="+strings.Repeat("x", 2<<20)))
	if status != http.StatusBadRequest || !strings.Contains(body, "MalformedQueryString") {
		t.Errorf("got %d %s", status, body)
	}
}

// TestActionAndRefuse tests the methods that the server uses.
func TestActionAndRefuse(t *testing.T) {
	b := newBox(t)
	h := ec2.New(b.st, sigv4.NewAuthorizer(b.st))
	for _, test := range []struct{ method, query, body, want string }{
		{"POST", "", "Action=RunInstances&ImageId=x", "RunInstances"},
		{"GET", "Action=DescribeTags", "", "DescribeTags"},
		{"POST", "", "", ""},
		{"POST", "", "Action=%zz", ""},
	} {
		r := httptest.NewRequest(test.method, "/?"+test.query, bytes.NewReader(nil))
		if got := h.Action(wire.New(r, []byte(test.body))); got != test.want {
			t.Errorf("%+v: got %q", test, got)
		}
	}
	w := httptest.NewRecorder()
	h.Refuse(w, http.StatusServiceUnavailable, "RequestLimitExceeded", "Request limit exceeded.")
	if w.Code != 503 || !strings.Contains(w.Body.String(), "<Error><Code>RequestLimitExceeded</Code><Message>Request limit exceeded.</Message></Error>") {
		t.Errorf("got %d %s", w.Code, w.Body)
	}
}
