package ec2

import (
	"net/http"

	"github.com/packer-chroot/packer-plugin-chroot/loopcloud/query"
	"github.com/packer-chroot/packer-plugin-chroot/loopcloud/state"
)

// The attributes of an image.
const (
	launchPermission = "launchPermission"
	description      = "description"
	imdsSupport      = "imdsSupport"

	blockDeviceMapping = "blockDeviceMapping"
)

// attributeText is an attribute with one value, such as Description.Value.
type attributeText struct {
	Value *string `query:"Value"`
}

// modifyImageAttributeInput has both forms of the request: the old one has the name of the
// Attribute and its Value or items; the new one has a parameter for each attribute.
type modifyImageAttributeInput struct {
	imageInput
	grantees
	Attribute    string           `query:"Attribute"`
	Operation    string           `query:"OperationType"`
	Value        *string          `query:"Value"`
	ProductCodes []string         `query:"ProductCode"`
	Description  attributeText    `query:"Description"`
	IMDS         attributeText    `query:"ImdsSupport"`
	Launch       permissionChange `query:"LaunchPermission"`
}

// attribute returns the name of the attribute that a request changes. A request changes one
// attribute.
func (in *modifyImageAttributeInput) attribute() (string, error) {
	given := map[string]bool{
		launchPermission: !in.Launch.isEmpty() || !in.nobody(),
		productCodes:     len(in.ProductCodes) > 0,
		description:      in.Description.Value != nil,
		imdsSupport:      in.IMDS.Value != nil,
	}
	name := in.Attribute
	for _, other := range []string{launchPermission, productCodes, description, imdsSupport} {
		if !given[other] || other == name {
			continue
		}
		if name != "" {
			return "", query.Refuse("InvalidParameterCombination", "The attributes %s and %s cannot be modified at once", name, other)
		}
		name = other
	}
	if name == "" {
		return "", query.Refuse("InvalidParameterCombination", "No attributes specified.")
	}
	if _, known := given[name]; !known {
		return "", badAttribute(name)
	}
	return name, nil
}

func (c *call) modifyImageAttribute(in *modifyImageAttributeInput) (*done, error) {
	attribute, err := in.attribute()
	if err != nil {
		return nil, err
	}
	if attribute == launchPermission {
		return c.shareImage(in)
	}
	_, err = c.st.UpdateImage(c.caller, string(in.ImageID), func(i *state.Image) error {
		return in.modify(attribute, i)
	}, in.DryRun)
	return succeeded(err)
}

func (c *call) shareImage(in *modifyImageAttributeInput) (*done, error) {
	ch, err := readChange(in.Operation, in.grantees, in.Launch)
	if err == nil && ch.Add.Public {
		err = c.mayPublish(string(in.ImageID))
	}
	if err != nil {
		return nil, err
	}
	_, err = c.st.ShareImage(c.caller, string(in.ImageID), ch, in.DryRun)
	return succeeded(err)
}

// modify changes an attribute other than the launch permission. Product codes can only be added,
// and IMDS support cannot be reset.
func (in *modifyImageAttributeInput) modify(attribute string, i *state.Image) error {
	switch attribute {
	case productCodes:
		if len(in.ProductCodes) == 0 {
			return query.Refuse("MissingParameter", "The request must contain the parameter ProductCode")
		}
		i.ProductCodes = append(i.ProductCodes, in.ProductCodes...)
		return nil
	case description:
		return in.set(in.Description.Value, &i.Description)
	}
	var version string
	if err := in.set(in.IMDS.Value, &version); err != nil {
		return err
	}
	if version != "v2.0" {
		return query.Refuse("InvalidParameterValue", "Value (%s) for parameter imdsSupport is invalid.", version)
	}
	i.IMDS = version
	return nil
}

// set sets an attribute to the value of the new form or, without one, of the old form.
func (in *modifyImageAttributeInput) set(value, to *string) error {
	if value == nil {
		value = in.Value
	}
	if value == nil {
		return query.Refuse("MissingParameter", "The request must contain the parameter Value")
	}
	*to = *value
	return nil
}

type resetImageAttributeInput struct {
	imageInput
	Attribute string `query:"Attribute,required"`
}

// resetImageAttribute removes all launch permissions. No other attribute can be reset.
func (c *call) resetImageAttribute(in *resetImageAttributeInput) (*done, error) {
	if in.Attribute != launchPermission {
		return nil, badAttribute(in.Attribute)
	}
	_, err := c.st.ShareImage(c.caller, string(in.ImageID), state.PermissionChange{RemoveAll: true}, in.DryRun)
	return succeeded(err)
}

type describeImageAttributeInput struct {
	imageInput
	Attribute string `query:"Attribute,required"`
}

// attributeValue is an attribute in a response, empty if the image has none.
type attributeValue struct {
	Value string `xml:"value,omitempty"`
}

type describeImageAttributeOutput struct {
	baseResponse
	ImageID     string                `xml:"imageId"`
	Launch      *set[permissionItem]  `xml:"launchPermission"`
	Products    *set[productCodeItem] `xml:"productCodes"`
	Kernel      *attributeValue       `xml:"kernel"`
	Ramdisk     *attributeValue       `xml:"ramdisk"`
	Description *attributeValue       `xml:"description"`
	SRIOV       *attributeValue       `xml:"sriovNetSupport"`
	BootMode    *attributeValue       `xml:"bootMode"`
	TPM         *attributeValue       `xml:"tpmSupport"`
	UEFIData    *attributeValue       `xml:"uefiData"`
	IMDS        *attributeValue       `xml:"imdsSupport"`
	Launched    *attributeValue       `xml:"lastLaunchedTime"`
	Protection  *attributeValue       `xml:"deregistrationProtection"`
}

// imageAttributes are functions that set one attribute of a response each.
var imageAttributes = map[string]func(*describeImageAttributeOutput, state.Image){
	launchPermission: func(out *describeImageAttributeOutput, i state.Image) { out.Launch = permissionSet(i.Launch) },
	productCodes:     func(out *describeImageAttributeOutput, i state.Image) { out.Products = productCodeSet(i.ProductCodes) },
	description: func(out *describeImageAttributeOutput, i state.Image) {
		out.Description = &attributeValue{i.Description}
	},
	imdsSupport:       func(out *describeImageAttributeOutput, i state.Image) { out.IMDS = &attributeValue{i.IMDS} },
	"kernel":          func(out *describeImageAttributeOutput, i state.Image) { out.Kernel = &attributeValue{i.KernelID} },
	"ramdisk":         func(out *describeImageAttributeOutput, i state.Image) { out.Ramdisk = &attributeValue{i.RamdiskID} },
	"sriovNetSupport": func(out *describeImageAttributeOutput, i state.Image) { out.SRIOV = &attributeValue{i.SRIOV} },
	"bootMode":        func(out *describeImageAttributeOutput, i state.Image) { out.BootMode = &attributeValue{i.BootMode} },
	"tpmSupport":      func(out *describeImageAttributeOutput, i state.Image) { out.TPM = &attributeValue{i.TPM} },
	"uefiData":        func(out *describeImageAttributeOutput, i state.Image) { out.UEFIData = &attributeValue{i.UEFIData} },
	"lastLaunchedTime": func(out *describeImageAttributeOutput, i state.Image) {
		out.Launched = &attributeValue{stampOrNone(i.LastLaunched)}
	},
	"deregistrationProtection": func(out *describeImageAttributeOutput, i state.Image) {
		out.Protection = &attributeValue{string(i.Protection)}
	},
}

// describeImageAttribute returns an attribute of the caller's image. The attribute
// blockDeviceMapping is deprecated, and EC2 refuses it to everybody.
// https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_DescribeImageAttribute.html
func (c *call) describeImageAttribute(in *describeImageAttributeInput) (*describeImageAttributeOutput, error) {
	if in.Attribute == blockDeviceMapping {
		return nil, &query.Error{Status: http.StatusForbidden, Code: "AuthFailure", Message: "Unauthorized attempt to access restricted resource"}
	}
	tell, ok := imageAttributes[in.Attribute]
	if !ok {
		return nil, badAttribute(in.Attribute)
	}
	found, err := c.namedImages([]imageID{in.ImageID})
	if err != nil {
		return nil, err
	}
	if found[0].Account != c.caller.Account {
		return nil, c.notOwner("image", found[0].ID)
	}
	out := &describeImageAttributeOutput{ImageID: found[0].ID}
	tell(out, found[0])
	return out, nil
}
