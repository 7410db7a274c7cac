package disk

import (
	"encoding/binary"
	"errors"
	"strings"
)

// Controller is an NVMe controller's answer to Identify Controller, as far as it
// identifies the volume.
//
// https://docs.aws.amazon.com/ebs/latest/userguide/identify-nvme-ebs-device.html
type Controller struct {
	// Vendor is the PCI vendor id. Only with VendorAmazon the other fields are as on EC2.
	Vendor uint16
	// Serial is the volume's id without its dash.
	Serial string
	Model  string
	// Requested is the device name of the request to attach, such as sdf or /dev/sdf.
	Requested string
}

// VendorAmazon is the PCI vendor id of EC2's NVMe controllers.
const VendorAmazon = 0x1d0f

// identifySize is the size of an answer in bytes.
const identifySize = 4096

// ParseController parses the 4096 bytes of an answer: NVM Express base specification,
// Identify Controller. The requested name is in the part for the vendor.
func ParseController(raw []byte) (Controller, error) {
	if len(raw) != identifySize {
		return Controller{}, errors.New("cannot read what an NVMe controller says of itself: it must be 4096 bytes")
	}
	c := Controller{
		Vendor: binary.LittleEndian.Uint16(raw),
		Serial: text(raw[4:24]),
		Model:  text(raw[24:64]),
	}
	if c.Vendor == VendorAmazon {
		c.Requested = text(raw[3072:3104])
	}
	return c, nil
}

// text returns a text that ends with a NUL or with blanks.
func text(raw []byte) string {
	s, _, _ := strings.Cut(string(raw), "\x00")
	return strings.TrimSpace(s)
}
