package kms_test

import (
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/packer-chroot/packer-plugin-chroot/loopcloud/kms"
	"github.com/packer-chroot/packer-plugin-chroot/loopcloud/sigv4"
	"github.com/packer-chroot/packer-plugin-chroot/loopcloud/state"
)

var caller = state.Caller{Account: "123456789012", Region: "cn-north-1"}

// ask makes a request to KMS. The Authorizer returns err.
func ask(action, body string, err error) *httptest.ResponseRecorder {
	h := kms.New(func(_ *http.Request, _ []byte, service string) (state.Caller, error) {
		if service != sigv4.KMS {
			return caller, errors.New("asked for another service")
		}
		return caller, err
	})
	r := httptest.NewRequest(http.MethodPost, "/", strings.NewReader(body))
	r.Header.Set("X-Amz-Target", "TrentService."+action)
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w
}

func TestDescribeKey(t *testing.T) {
	managed, own := state.KeyARN(caller, state.DefaultKeyAlias), state.KeyARN(caller, "alias/own")
	for name, want := range map[string]string{state.DefaultKeyAlias: "AWS", managed: "AWS", "alias/own": "CUSTOMER", own: "CUSTOMER"} {
		var got struct {
			KeyMetadata struct{ Arn, KeyId, KeyManager, AWSAccountId string } //nolint:revive // the names on the wire
		}
		w := ask("DescribeKey", `{"KeyId":"`+name+`"}`, nil)
		if err := json.Unmarshal(w.Body.Bytes(), &got); err != nil || w.Code != http.StatusOK {
			t.Fatalf("%s: %d %s", name, w.Code, w.Body)
		}
		m := got.KeyMetadata
		if m.KeyManager != want || m.AWSAccountId != caller.Account || !strings.HasSuffix(m.Arn, ":key/"+m.KeyId) || !strings.HasPrefix(m.Arn, "arn:aws-cn:kms:cn-north-1:") {
			t.Errorf("%s is %+v, want it managed by %s", name, m, want)
		}
	}
}

func TestRefusals(t *testing.T) {
	for _, test := range []struct {
		action, body string
		err          error
		want         string
	}{
		{"DescribeKey", `{"KeyId":"alias/missing"}`, nil, "NotFoundException"},
		{"DescribeKey", `{"KeyId":"no key"}`, nil, "NotFoundException"},
		{"DescribeKey", `{"KeyId":"arn:aws:kms:us-east-1:123456789012:alias/own"}`, nil, "NotFoundException"},
		{"DescribeKey", `{}`, nil, "ValidationException"},
		{"DescribeKey", `[`, nil, "ValidationException"},
		{"DescribeKey", `{"KeyId":"alias/own"}`, errors.New("no"), "UnrecognizedClientException"},
		{"Encrypt", `{"KeyId":"alias/own"}`, nil, "UnknownOperationException"},
	} {
		if w := ask(test.action, test.body, test.err); w.Code != http.StatusBadRequest || !strings.Contains(w.Body.String(), `"__type":"`+test.want) {
			t.Errorf("%s %s: %d %s, want %s", test.action, test.body, w.Code, w.Body, test.want)
		}
	}
}

// FuzzDescribeKey: every body gets a JSON response.
func FuzzDescribeKey(f *testing.F) {
	for _, body := range []string{`{"KeyId":"alias/own"}`, `{"KeyId":"arn:aws:kms:::key/"}`, `{"KeyId":1}`, `null`, ``} {
		f.Add(body)
	}
	f.Fuzz(func(t *testing.T, body string) {
		if w := ask("DescribeKey", body, nil); !json.Valid(w.Body.Bytes()) {
			t.Errorf("%q: %s", body, w.Body)
		}
	})
}
