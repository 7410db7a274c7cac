package amazon

import (
	"fmt"
	"os"
	"strings"

	"github.com/packer-chroot/packer-plugin-chroot/lazydisk/block"
)

// Prices in US dollars, in us-east-1. They are only used to compare, and to tell the user their order
// of magnitude. Sources: https://aws.amazon.com/ebs/pricing/ and
// https://aws.amazon.com/ec2/pricing/on-demand/ (data transfer).
const (
	readPrice     = 0.003 / 1000 // for a block that is read
	writePrice    = 0.006 / 1000 // for a block that is written
	storagePrice  = 0.05         // for a GiB of a snapshot and a month
	transferPrice = 0.09         // for a GiB that is read from outside of AWS
)

// price is the price of a copy of the source, and of a full upload.
type price struct {
	// month is the price of a copy for a month, and build that of a full upload, in words.
	month, build string
	kept         bool
	// copyIsCheaper reports whether a copy costs less than a full upload: if it is kept, it counts
	// for a month, and otherwise for the time of the build.
	copyIsCheaper bool
}

// priceOf estimates prices. Outside of EC2, blocks that are read are also charged as data transfer.
func priceOf(o origin, outside, kept bool) price {
	size, about := float64(o.stored), "about"
	if o.stored == 0 {
		size, about = float64(o.sizeGiB<<30), "at most"
	}
	gib, blocks := size/(1<<30), size/block.Size
	month, build := gib*storagePrice, blocks*(readPrice+writePrice)
	if outside {
		build += gib * transferPrice
	}
	return price{
		month: fmt.Sprintf("%s $%.2f a month (%.1f GiB at $%.2f, the price in us-east-1)", about, month, gib, storagePrice),
		build: fmt.Sprintf("%s $%.2f for each build (%.1f GiB)", about, build, gib),
		kept:  kept, copyIsCheaper: !kept || month < build,
	}
}

// ofCopy tells the price of a copy.
func (p price) ofCopy() string {
	if p.kept {
		return fmt.Sprintf("the copy stays for later builds and costs %s until you delete it; keep_source_copy = false removes it after the build", p.month)
	}
	return "the copy is removed after the build, because keep_source_copy is false"
}

// ofUpload tells the price of a full upload.
func (p price) ofUpload() string {
	return fmt.Sprintf("that costs %s, and a copy of it would cost %s", p.build, p.month)
}

// hostFiles are the files of a host that name its maker: its BIOS, or Xen.
var hostFiles = []string{"/sys/class/dmi/id/sys_vendor", "/sys/hypervisor/uuid"}

// onEC2 reports whether this host is an EC2 instance. It is only used to estimate prices.
// Source: https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/identify_ec2_instances.html
func onEC2(files []string) bool {
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err == nil && (strings.HasPrefix(string(text), "Amazon EC2") || strings.HasPrefix(strings.ToLower(string(text)), "ec2")) {
			return true
		}
	}
	return false
}
