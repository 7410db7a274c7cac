package disk

import "github.com/packer-chroot/packer-plugin-chroot/disk/superblock"

// MountsOf is FstabMounts of a disk with one partition.
func MountsOf(fstab string, p Partition, node string, content superblock.Content) []FstabMount {
	return fstabMounts(ParseFstab(fstab), []candidate{{Partition: p, node: node, content: content}})
}
