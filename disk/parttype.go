package disk

// notRoots are the types of partition that are never a root, with their names. The comment of the
// option mount_partition lists these names.
var notRoots = map[string]string{
	// GPT: UEFI specification, and the Discoverable Partitions Specification
	// (https://uapi-group.org/specifications/specs/discoverable_partitions_specification/).
	"c12a7328-f81f-11d2-ba4b-00a0c93ec93b": "EFI system",
	"21686148-6449-6e6f-744e-656564454649": "BIOS boot",
	"0657fd6d-a4ab-43c4-84e5-0933c84b4f4f": "swap",
	"bc13c2ff-59e6-4262-a352-b275fd6f7172": "boot loader",
	"9e1a2d38-c612-4316-aa26-8b49521e5a8b": "PReP boot",
	"e3c9e316-0b5c-4db8-817d-f92df00215ae": "Microsoft reserved",
	// MBR
	"ef": "EFI system",
	"82": "swap",
	"41": "PReP boot",
	"05": "extended", "0f": "extended", "85": "extended",
}

// rootTypes are the types of a root partition, of the Discoverable Partitions Specification.
var rootTypes = map[string]string{
	"4f68bce3-e8cd-4db1-96e7-fbcaf984b709": "root of x86-64",
	"b921b045-1df0-41c3-af44-4c6f280d3fae": "root of arm64",
}

// typeName returns the name of a type, or the type itself.
func typeName(kind string) string {
	for _, names := range []map[string]string{notRoots, rootTypes} {
		if name, ok := names[kind]; ok {
			return name
		}
	}
	return kind
}
