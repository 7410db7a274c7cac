package disk

import (
	"bytes"
	"encoding/binary"
	"regexp"
)

// askedName matches a name under which a volume was requested.
var askedName = regexp.MustCompile(`^(?:sd|xvd)([a-z]{1,2})$`)

// lettersOf returns the letters of such a name: f of sdf and xvdf; they are empty if it
// is not one.
func lettersOf(name string) string {
	if m := askedName.FindStringSubmatch(name); m != nil {
		return m[1]
	}
	return ""
}

// identificationOf returns the name of a SCSI disk of QEMU in its vital product data, as
// sysfs has it: page 0x83 (device identification), whose designators may be of the
// vendor's own kind, and page 0x80 (unit serial number). Outscale puts the requested name
// there, and udev makes its links from that. It is empty if the pages have none.
//
// Source: SCSI Primary Commands 4 (SPC-4), 7.8.5 and 7.8.15; udev's scsi_id.
func identificationOf(page83, page80 []byte) string {
	for d := payload(page83, 0x83); len(d) >= 4 && len(d) >= 4+int(d[3]); d = d[4+int(d[3]):] {
		const ascii, vendors = 2, 0
		if d[0]&0x0f == ascii && d[1]&0x3f == vendors { // of the disk itself, and not of its port
			return trimmed(d[4 : 4+int(d[3])])
		}
	}
	return trimmed(payload(page80, 0x80))
}

// payload returns a page of vital product data without its header.
func payload(page []byte, code byte) []byte {
	if len(page) < 4 || page[1] != code {
		return nil
	}
	return page[4:min(len(page), 4+int(binary.BigEndian.Uint16(page[2:])))]
}

func trimmed(text []byte) string { return string(bytes.Trim(text, " \x00")) }
