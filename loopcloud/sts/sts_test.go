package sts_test

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/credentials"
	sdk "github.com/aws/aws-sdk-go-v2/service/sts"
	"github.com/aws/aws-sdk-go-v2/service/sts/types"
	"github.com/aws/smithy-go"

	"github.com/packer-chroot/packer-plugin-chroot/loopcloud/query/apitest"
	"github.com/packer-chroot/packer-plugin-chroot/loopcloud/sigv4"
	"github.com/packer-chroot/packer-plugin-chroot/loopcloud/state"
	"github.com/packer-chroot/packer-plugin-chroot/loopcloud/state/statetest"
	"github.com/packer-chroot/packer-plugin-chroot/loopcloud/sts"
	"github.com/packer-chroot/packer-plugin-chroot/loopcloud/wire"
	"github.com/packer-chroot/packer-plugin-chroot/sdkhttp"
	"github.com/packer-chroot/packer-plugin-chroot/testdir"
)

var ctx = context.Background()

const (
	other   = "210987654321"
	roleARN = "arn:aws:iam::" + state.DefaultAccount + ":role/builders/packer"
)

// box is a cloud with two accounts and an STS endpoint.
type box struct {
	*testing.T
	st  *state.Cloud
	url string
}

func newBox(t *testing.T) *box {
	t.Helper()
	st, err := state.Open(state.Config{
		Dir: testdir.New(t), Disks: statetest.NewDisks(), DefaultRegion: "eu-west-1",
		Accounts: []state.Account{{ID: state.DefaultAccount}, {ID: other}},
		Keys:     []state.Key{{ID: "AKIDALICE", Secret: "alice"}},
	})
	if err != nil {
		t.Fatal(err)
	}
	model, err := apitest.Load()
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(model.Answers(t, sts.New(st, sigv4.NewAuthorizer(st))))
	t.Cleanup(func() {
		server.Close()
		if err := st.Close(); err != nil {
			t.Error(err)
		}
	})
	return &box{T: t, st: st, url: server.URL}
}

// as returns the SDK's client with these keys.
func (b *box) as(id, secret, token string) *sdk.Client {
	return sdk.New(sdk.Options{
		BaseEndpoint: aws.String(b.url), Region: "eu-west-1", Retryer: aws.NopRetryer{}, HTTPClient: sdkhttp.Safe(awshttp.NewBuildableClient()),
		Credentials: credentials.NewStaticCredentialsProvider(id, secret, token),
	})
}

func (b *box) alice() *sdk.Client { return b.as("AKIDALICE", "alice", "") }

// with returns the SDK's client with temporary keys.
func (b *box) with(k *types.Credentials) *sdk.Client {
	return b.as(aws.ToString(k.AccessKeyId), aws.ToString(k.SecretAccessKey), aws.ToString(k.SessionToken))
}

// is checks the identity of a client.
func (b *box) is(c *sdk.Client, account, arn string) {
	b.Helper()
	got, err := c.GetCallerIdentity(ctx, nil)
	if err != nil {
		b.Fatal(err)
	}
	if aws.ToString(got.Account) != account || aws.ToString(got.Arn) != arn || aws.ToString(got.UserId) == "" {
		b.Errorf("known as %s, %s, %s; want %s", aws.ToString(got.Account), aws.ToString(got.Arn), aws.ToString(got.UserId), arn)
	}
}

// refused checks the code and the text of a refusal.
func refused(t *testing.T, err error, code, text string) {
	t.Helper()
	var refusal smithy.APIError
	if !errors.As(err, &refusal) || refusal.ErrorCode() != code || !strings.Contains(refusal.ErrorMessage(), text) {
		t.Errorf("got %v, want %s with %q", err, code, text)
	}
}

func TestAssumeRole(t *testing.T) {
	b := newBox(t)
	b.is(b.alice(), state.DefaultAccount, "arn:aws:iam::123456789012:user/loopcloud")
	for _, account := range []string{state.DefaultAccount, other} {
		before := time.Now().Truncate(time.Second)
		out, err := b.alice().AssumeRole(ctx, &sdk.AssumeRoleInput{
			RoleArn: aws.String("arn:aws:iam::" + account + ":role/builders/packer"), RoleSessionName: aws.String("me@here"),
			DurationSeconds: aws.Int32(900), ExternalId: aws.String("x:1"), Policy: aws.String(`{"Statement":[]}`),
			PolicyArns:   []types.PolicyDescriptorType{{Arn: aws.String("arn:aws:iam::aws:policy/ReadOnlyAccess")}},
			Tags:         []types.Tag{{Key: aws.String("team"), Value: aws.String("images")}, {Key: aws.String("n"), Value: aws.String("")}},
			SerialNumber: aws.String("GAHT12345678"), TokenCode: aws.String("123456"), TransitiveTagKeys: []string{"team"},
		})
		if err != nil {
			t.Fatal(err)
		}
		arn := "arn:aws:sts::" + account + ":assumed-role/packer/me@here"
		if got := aws.ToString(out.AssumedRoleUser.Arn); got != arn {
			t.Errorf("assumed %s, want %s", got, arn)
		}
		if end := out.Credentials.Expiration; end.Before(before.Add(900*time.Second)) || end.After(time.Now().Add(900*time.Second)) {
			t.Errorf("the keys end at %s", end)
		}
		if id := aws.ToString(out.Credentials.AccessKeyId); !strings.HasPrefix(id, "ASIA") || len(id) != 20 {
			t.Errorf("access key %s", id)
		}
		b.is(b.with(out.Credentials), account, arn)
	}
}

func TestAssumeRoleRefusals(t *testing.T) {
	b := newBox(t)
	for name, test := range map[string]struct {
		change func(*sdk.AssumeRoleInput)
		code   string
		text   string
	}{
		"account of nobody": {func(in *sdk.AssumeRoleInput) { in.RoleArn = aws.String("arn:aws:iam::000000000000:role/r") }, "AccessDenied",
			"arn:aws:iam::123456789012:user/loopcloud is not authorized to perform: sts:AssumeRole on resource: arn:aws:iam::000000000000:role/r"},
		"no role":              {func(in *sdk.AssumeRoleInput) { in.RoleArn = aws.String("arn:aws:iam::123456789012:user/packer") }, "ValidationError", "is invalid"},
		"odd session name":     {func(in *sdk.AssumeRoleInput) { in.RoleSessionName = aws.String("a b") }, "ValidationError", "roleSessionName"},
		"short":                {func(in *sdk.AssumeRoleInput) { in.DurationSeconds = aws.Int32(899) }, "ValidationError", "899"},
		"long":                 {func(in *sdk.AssumeRoleInput) { in.DurationSeconds = aws.Int32(43201) }, "ValidationError", "43201"},
		"policy without sense": {func(in *sdk.AssumeRoleInput) { in.Policy = aws.String("{") }, "MalformedPolicyDocument", ""},
		"policy by name": {func(in *sdk.AssumeRoleInput) {
			in.PolicyArns = []types.PolicyDescriptorType{{Arn: aws.String("ReadOnly")}}
		}, "ValidationError", "ReadOnly"},
		"external id":           {func(in *sdk.AssumeRoleInput) { in.ExternalId = aws.String("a b") }, "ValidationError", "externalId"},
		"code without a device": {func(in *sdk.AssumeRoleInput) { in.TokenCode = aws.String("123456") }, "ValidationError", "SerialNumber"},
		"device without a code": {func(in *sdk.AssumeRoleInput) { in.SerialNumber = aws.String("GAHT12345678") }, "ValidationError", "TokenCode"},
		"wrong code": {func(in *sdk.AssumeRoleInput) {
			in.SerialNumber, in.TokenCode = aws.String("GAHT12345678"), aws.String("000000")
		}, "AccessDenied", "MultiFactorAuthentication"},
		"transitive tag that is none": {func(in *sdk.AssumeRoleInput) { in.TransitiveTagKeys = []string{"team"} }, "InvalidParameterValue", "team"},
		"two tags of a key": {func(in *sdk.AssumeRoleInput) {
			tag := types.Tag{Key: aws.String("team"), Value: aws.String("v")}
			in.Tags = []types.Tag{tag, tag}
		}, "InvalidParameterValue", "team"},
		"what it does not have": {func(in *sdk.AssumeRoleInput) { in.SourceIdentity = aws.String("someone") }, "ValidationError", "SourceIdentity"},
	} {
		t.Run(name, func(t *testing.T) {
			in := &sdk.AssumeRoleInput{RoleArn: aws.String(roleARN), RoleSessionName: aws.String("build")}
			test.change(in)
			_, err := b.alice().AssumeRole(ctx, in)
			refused(t, err, test.code, test.text)
		})
	}
}

func TestRoleOfARole(t *testing.T) {
	b := newBox(t)
	in := &sdk.AssumeRoleInput{RoleArn: aws.String(roleARN), RoleSessionName: aws.String("first")}
	first, err := b.alice().AssumeRole(ctx, in)
	if err != nil {
		t.Fatal(err)
	}
	in.RoleSessionName = aws.String("second")
	second, err := b.with(first.Credentials).AssumeRole(ctx, in)
	if err != nil {
		t.Fatal(err)
	}
	b.is(b.with(second.Credentials), state.DefaultAccount, "arn:aws:sts::123456789012:assumed-role/packer/second")
	in.DurationSeconds = aws.Int32(3601)
	_, err = b.with(first.Credentials).AssumeRole(ctx, in)
	refused(t, err, "ValidationError", "3601")
	_, err = b.with(first.Credentials).GetSessionToken(ctx, nil)
	refused(t, err, "AccessDenied", "session credentials")
}

func TestRefusedKeys(t *testing.T) {
	b := newBox(t)
	good, err := b.st.NewSession(other, "arn:aws:sts::210987654321:assumed-role/r/s", time.Now().Add(time.Minute))
	if err != nil {
		t.Fatal(err)
	}
	ended, err := b.st.NewSession(other, "arn:aws:sts::210987654321:assumed-role/r/s", time.Now())
	if err != nil {
		t.Fatal(err)
	}
	b.is(b.as(good.ID, good.Secret, good.Session.Token), other, good.Session.ARN)
	for name, test := range map[string]struct{ id, secret, token, code string }{
		"unknown":          {"AKIDNOBODY", "alice", "", "InvalidClientTokenId"},
		"without a token":  {good.ID, good.Secret, "", "InvalidClientTokenId"},
		"of another token": {good.ID, good.Secret, ended.Session.Token, "InvalidClientTokenId"},
		"ended":            {ended.ID, ended.Secret, ended.Session.Token, "ExpiredToken"},
		"of no secret":     {good.ID, "alice", good.Session.Token, "SignatureDoesNotMatch"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := b.as(test.id, test.secret, test.token).GetCallerIdentity(ctx, nil)
			refused(t, err, test.code, "")
		})
	}
	c := sdk.New(sdk.Options{BaseEndpoint: aws.String(b.url), Region: "mars-1", Retryer: aws.NopRetryer{}, HTTPClient: sdkhttp.Safe(awshttp.NewBuildableClient()),
		Credentials: credentials.NewStaticCredentialsProvider("AKIDALICE", "alice", "")})
	_, err = c.GetCallerIdentity(ctx, nil)
	refused(t, err, "SignatureDoesNotMatch", "mars-1")
}

func TestSessionToken(t *testing.T) {
	b := newBox(t)
	out, err := b.alice().GetSessionToken(ctx, &sdk.GetSessionTokenInput{
		DurationSeconds: aws.Int32(129600), SerialNumber: aws.String("GAHT12345678"), TokenCode: aws.String("123456"),
	})
	if err != nil {
		t.Fatal(err)
	}
	b.is(b.with(out.Credentials), state.DefaultAccount, "arn:aws:iam::123456789012:user/loopcloud")
	_, err = b.alice().GetSessionToken(ctx, &sdk.GetSessionTokenInput{DurationSeconds: aws.Int32(129601)})
	refused(t, err, "ValidationError", "129601")
}

// jwt returns an unsigned token.
func jwt(payload string) string {
	return "e30." + base64.RawURLEncoding.EncodeToString([]byte(payload)) + ".c2ln"
}

func TestWebIdentity(t *testing.T) {
	b := newBox(t)
	now := time.Now().Unix()
	ask := func(token string) (*sdk.AssumeRoleWithWebIdentityOutput, error) {
		return b.as("", "", "").AssumeRoleWithWebIdentity(ctx, &sdk.AssumeRoleWithWebIdentityInput{
			RoleArn: aws.String(roleARN), RoleSessionName: aws.String("pod"), WebIdentityToken: aws.String(token),
		})
	}
	out, err := ask(jwt(fmt.Sprintf(`{"sub":"system:serviceaccount:ci:packer","iss":"https://oidc.example","aud":["sts.amazonaws.com"],"exp":%d}`, now+60)))
	if err != nil {
		t.Fatal(err)
	}
	if aws.ToString(out.SubjectFromWebIdentityToken) != "system:serviceaccount:ci:packer" || aws.ToString(out.Provider) != "https://oidc.example" ||
		aws.ToString(out.Audience) != "sts.amazonaws.com" {
		t.Errorf("got %+v", out)
	}
	b.is(b.with(out.Credentials), state.DefaultAccount, "arn:aws:sts::123456789012:assumed-role/packer/pod")
	for token, code := range map[string]string{
		jwt(fmt.Sprintf(`{"sub":"s","exp":%d}`, now-1)): "ExpiredTokenException",
		jwt(`{"exp":1}`): "InvalidIdentityToken",
		jwt(`[`):         "InvalidIdentityToken",
		"one.two":        "InvalidIdentityToken",
		"e30.*.c2ln":     "InvalidIdentityToken",
	} {
		_, err := ask(token)
		refused(t, err, code, "")
	}
}

func TestDecodeAuthorizationMessage(t *testing.T) {
	b := newBox(t)
	const document = `{"allowed":false}`
	out, err := b.alice().DecodeAuthorizationMessage(ctx, &sdk.DecodeAuthorizationMessageInput{
		EncodedMessage: aws.String(base64.StdEncoding.EncodeToString([]byte(document))),
	})
	if err != nil || aws.ToString(out.DecodedMessage) != document {
		t.Errorf("got %+v, %v", out, err)
	}
	_, err = b.alice().DecodeAuthorizationMessage(ctx, &sdk.DecodeAuthorizationMessageInput{EncodedMessage: aws.String("AQoDY")})
	refused(t, err, "InvalidAuthorizationMessageException", "")
}

// TestRawRequests sends requests that the SDK would not send.
func TestRawRequests(t *testing.T) {
	b := newBox(t)
	for params, want := range map[string]string{
		"Version=2011-06-15":                                  "MissingAction",
		"Action=GetFederationToken&Version=2011-06-15":        "InvalidAction",
		"Action=GetCallerIdentity&Version=2011-06-15":         "MissingAuthenticationToken",
		"Action=GetCallerIdentity&Version=1":                  "InvalidAction",
		"Action=GetCallerIdentity&Action=x":                   "MalformedQueryString",
		"Action=%zz":                                          "MalformedQueryString",
		"Action=AssumeRoleWithWebIdentity&Version=2011-06-15": "ValidationError",
		"Action=" + strings.Repeat("x", 1<<19):                "MalformedQueryString",
	} {
		w := httptest.NewRecorder()
		r := httptest.NewRequest(http.MethodPost, "/", strings.NewReader(params))
		sts.New(b.st, sigv4.NewAuthorizer(b.st)).ServeHTTP(w, r)
		if w.Code < 400 || w.Code > 403 || !strings.Contains(w.Body.String(), "<Type>Sender</Type><Code>"+want+"</Code>") {
			t.Errorf("%.60s: got %d %s", params, w.Code, w.Body)
		}
	}
}

func TestActionAndRefuse(t *testing.T) {
	b := newBox(t)
	h := sts.New(b.st, sigv4.NewAuthorizer(b.st))
	for body, want := range map[string]string{"Action=AssumeRole": "AssumeRole", "": "", "Action=%zz": ""} {
		if got := h.Action(wire.New(httptest.NewRequest(http.MethodPost, "/", nil), []byte(body))); got != want {
			t.Errorf("%q: got %q", body, got)
		}
	}
	w := httptest.NewRecorder()
	h.Refuse(w, http.StatusServiceUnavailable, "ServiceUnavailable", "Later.")
	if w.Code != 503 || !strings.Contains(w.Body.String(), "<Type>Receiver</Type><Code>ServiceUnavailable</Code><Message>Later.</Message>") {
		t.Errorf("got %d %s", w.Code, w.Body)
	}
}

// FuzzRequest: every form that is refused is the sender's fault.
func FuzzRequest(f *testing.F) {
	st, err := state.Open(state.Config{Dir: testdir.New(f), Disks: statetest.NewDisks()})
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() { _ = st.Close() })
	caller := state.Caller{Account: state.DefaultAccount, Region: st.DefaultRegion()}
	h := sts.New(st, func(*http.Request, []byte, string) (state.Caller, error) { return caller, nil })
	for _, action := range []string{"AssumeRole", "AssumeRoleWithWebIdentity", "GetSessionToken", "DecodeAuthorizationMessage", "GetCallerIdentity"} {
		f.Add("Action=" + action + "&RoleArn=" + url.QueryEscape(roleARN) + "&RoleSessionName=me&Tags.member.1.Key=k&WebIdentityToken=" + jwt(`{"sub":"s"}`))
	}
	f.Fuzz(func(t *testing.T, form string) {
		w := httptest.NewRecorder()
		h.ServeHTTP(w, httptest.NewRequest(http.MethodPost, "/", strings.NewReader(form+"&Version="+sts.Version)))
		if w.Code >= 500 {
			t.Errorf("got %d %s", w.Code, w.Body)
		}
	})
}
