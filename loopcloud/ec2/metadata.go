package ec2

import (
	"github.com/packer-chroot/packer-plugin-chroot/loopcloud/query"
	"github.com/packer-chroot/packer-plugin-chroot/loopcloud/state"
)

// metadataItem holds the options of an instance's metadata service in a response.
type metadataItem struct {
	State    string `xml:"state"`
	Tokens   string `xml:"httpTokens"`
	HopLimit int    `xml:"httpPutResponseHopLimit"`
	Endpoint string `xml:"httpEndpoint"`
	IPv6     string `xml:"httpProtocolIpv6"`
	Tags     string `xml:"instanceMetadataTags"`
}

// The values of metadata options.
const (
	metadataEnabled  = "enabled"
	metadataDisabled = "disabled"
	tokensRequired   = "required"
	tokensOptional   = "optional"
	// maxHops is the largest hop limit.
	maxHops = 64
)

func describeMetadata(m state.MetadataOptions) metadataItem {
	item := metadataItem{
		State: "applied", Tokens: tokensOptional, HopLimit: m.Hops(),
		Endpoint: metadataEnabled, IPv6: metadataDisabled, Tags: metadataDisabled,
	}
	if m.TokensRequired {
		item.Tokens = tokensRequired
	}
	if m.Disabled {
		item.Endpoint = metadataDisabled
	}
	return item
}

type modifyMetadataInput struct {
	baseInput
	InstanceID instanceID `query:"InstanceId,required"`
	Tokens     string     `query:"HttpTokens"`
	HopLimit   *int64     `query:"HttpPutResponseHopLimit"`
	Endpoint   string     `query:"HttpEndpoint"`
}

type modifyMetadataOutput struct {
	baseResponse
	InstanceID string       `xml:"instanceId"`
	Options    metadataItem `xml:"instanceMetadataOptions"`
}

// modifyMetadata changes the options of an instance's metadata service.
// https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_ModifyInstanceMetadataOptions.html
func (c *call) modifyMetadata(in *modifyMetadataInput) (*modifyMetadataOutput, error) {
	if err := in.check(); err != nil {
		return nil, err
	}
	vm, err := c.st.SetMetadata(c.caller, string(in.InstanceID), in.change, in.DryRun)
	return &modifyMetadataOutput{InstanceID: vm.ID, Options: describeMetadata(vm.Metadata)}, err
}

func (in *modifyMetadataInput) check() error {
	for _, p := range []struct{ name, value, one, other string }{
		{"HttpTokens", in.Tokens, tokensOptional, tokensRequired},
		{"HttpEndpoint", in.Endpoint, metadataEnabled, metadataDisabled},
	} {
		if p.value != "" && p.value != p.one && p.value != p.other {
			return query.Refuse("InvalidParameterValue", "Value (%s) for parameter %s is invalid.", p.value, p.name)
		}
	}
	switch {
	case in.HopLimit != nil && (*in.HopLimit < 1 || *in.HopLimit > maxHops):
		return query.Refuse("InvalidParameterValue", "Value (%d) for parameter HttpPutResponseHopLimit is invalid. It must be from 1 to %d.", *in.HopLimit, maxHops)
	case in.Tokens == "" && in.Endpoint == "" && in.HopLimit == nil:
		return query.Refuse("MissingParameter", "The request must contain at least one metadata option")
	}
	return nil
}

func (in *modifyMetadataInput) change(m *state.MetadataOptions) {
	if in.Tokens != "" {
		m.TokensRequired = in.Tokens == tokensRequired
	}
	if in.Endpoint != "" {
		m.Disabled = in.Endpoint == metadataDisabled
	}
	if in.HopLimit != nil {
		m.HopLimit = int(*in.HopLimit)
	}
}
