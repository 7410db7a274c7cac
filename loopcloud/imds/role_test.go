package imds_test

import (
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/credentials/ec2rolecreds"
)

// TestRoleCredentials checks that the keys of the machine's role are temporary keys of its
// account, and stay the same until they are renewed.
func TestRoleCredentials(t *testing.T) {
	b := newBox(t)
	role := ec2rolecreds.New(func(o *ec2rolecreds.Options) { o.Client = b.client() })
	got, err := role.Retrieve(ctx)
	if err != nil {
		t.Fatal(err)
	}
	key, known := b.st.Key(got.AccessKeyID)
	if !known || key.Secret != got.SecretAccessKey || key.Session.Token != got.SessionToken || key.Account != b.vm.Account {
		t.Errorf("got %+v; the cloud knows %+v", got, key)
	}
	if !strings.HasSuffix(key.Session.ARN, ":assumed-role/loopcloud/"+b.vm.ID) {
		t.Errorf("the session is %s", key.Session.ARN)
	}
	if !got.CanExpire || got.Expires.After(key.Session.Until) {
		t.Errorf("the keys end at %s", got.Expires)
	}
	if again, err := role.Retrieve(ctx); err != nil || again.AccessKeyID != got.AccessKeyID {
		t.Errorf("the second time it was %s, %v", again.AccessKeyID, err)
	}
	info, err := b.client().GetIAMInfo(ctx, nil)
	if err != nil || info.InstanceProfileArn != "arn:aws:iam::"+b.vm.Account+":instance-profile/loopcloud" {
		t.Errorf("got %+v, %v", info, err)
	}
}
