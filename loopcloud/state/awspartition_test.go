package state_test

import (
	"strings"
	"testing"

	"github.com/packer-chroot/packer-plugin-chroot/loopcloud/state"
)

func TestPartitions(t *testing.T) {
	for region, want := range map[string][2]string{
		"eu-west-2":      {"aws", "amazonaws.com"},
		"us-east-1":      {"aws", "amazonaws.com"},
		"cn-north-1":     {"aws-cn", "amazonaws.com.cn"},
		"us-gov-west-1":  {"aws-us-gov", "amazonaws.com"},
		"us-iso-east-1":  {"aws-iso", "c2s.ic.gov"},
		"us-isob-east-1": {"aws-iso-b", "sc2s.sgov.gov"},
		"eusc-de-east-1": {"aws-eusc", "amazonaws.eu"},
	} {
		if got := [2]string{state.Partition(region), state.Domain(region)}; got != want {
			t.Errorf("%s is of %v, want %v", region, got, want)
		}
		key := state.KeyARN(state.Caller{Account: "123456789012", Region: region}, state.DefaultKeyAlias)
		if !strings.HasPrefix(key, "arn:"+want[0]+":kms:"+region+":") || !state.Managed(key) || state.Managed(state.KeyARN(state.Caller{Account: "123456789012", Region: region}, "alias/own")) {
			t.Errorf("the key that AWS manages in %s is %s", region, key)
		}
	}
}
