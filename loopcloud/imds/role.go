package imds

import (
	"encoding/json"
	"fmt"
	"sync"
	"time"

	"github.com/packer-chroot/packer-plugin-chroot/loopcloud/state"
)

const (
	// roleName is the name of the instance profile and of its role.
	roleName = "loopcloud"
	// roleLife is the lifetime of the role's keys, and roleRenewed the time before their end at
	// which new keys appear: at least five minutes, according to EC2.
	roleLife    = 6 * time.Hour
	roleRenewed = time.Hour
)

// role is the machine's role with its current keys.
type role struct {
	mu    sync.Mutex
	key   state.Key
	since time.Time
}

// entries returns the metadata of the role. Source:
// https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/instance-metadata-security-credentials.html
func (r *role) entries(st *state.Cloud, vm state.VM) map[string]string {
	key, since, err := r.current(st, vm, time.Now())
	if err != nil {
		return nil // an unknown account has no role
	}
	return map[string]string{
		"info": object(map[string]string{
			"Code": "Success", "LastUpdated": stamp(since),
			"InstanceProfileArn": fmt.Sprintf("arn:%s:iam::%s:instance-profile/%s", state.Partition(vm.Region), vm.Account, roleName),
			"InstanceProfileId":  "AIPALOOPCLOUD00000000",
		}),
		"security-credentials/" + roleName: object(map[string]string{
			"Code": "Success", "LastUpdated": stamp(since), "Type": "AWS-HMAC",
			"AccessKeyId": key.ID, "SecretAccessKey": key.Secret, "Token": key.Session.Token,
			"Expiration": stamp(key.Session.Until),
		}),
	}
}

// current returns the keys. It creates new ones if there are none, or if they expire soon.
func (r *role) current(st *state.Cloud, vm state.VM, now time.Time) (state.Key, time.Time, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.key.Session != nil && now.Add(roleRenewed).Before(r.key.Session.Until) {
		return r.key, r.since, nil
	}
	arn := fmt.Sprintf("arn:%s:sts::%s:assumed-role/%s/%s", state.Partition(vm.Region), vm.Account, roleName, vm.ID)
	key, err := st.NewSession(vm.Account, arn, now.Add(roleLife))
	if err == nil {
		r.key, r.since = key, now
	}
	return key, r.since, err
}

func stamp(t time.Time) string { return t.UTC().Format(time.RFC3339) }

// object returns a JSON object of texts.
func object(texts map[string]string) string {
	out, err := json.MarshalIndent(texts, "", "  ")
	if err != nil {
		panic("texts have no JSON: " + err.Error())
	}
	return string(out)
}
