#!/usr/bin/env bash
# qemu.sh CACHE: runs the tests with virtual machines. Their Debian kernel is unpacked into CACHE
# and not installed.
set -euo pipefail
cache=$1
export AWS_EC2_METADATA_DISABLED=true
cd "$(dirname "$0")/.."
. tools/remove.sh

command -v qemu-system-x86_64 >/dev/null && command -v busybox >/dev/null || {
  echo 'missing: qemu-system-x86_64 and busybox (apt-get install qemu-system-x86 busybox-static)' >&2
  exit 1
}
# The modules that the tests load.
modules=(block/loop scsi/scsi_common scsi/scsi_mod scsi/sd_mod scsi/virtio_scsi virtio/virtio virtio/virtio_ring
  virtio/virtio_pci virtio/virtio_pci_modern_dev virtio/virtio_pci_legacy_dev)
# kernel prints the newest kernel with all of these modules.
kernel() {
  local found module missing
  for found in $(find "$cache/kernel/boot" -name 'vmlinuz-*' 2>/dev/null | sort -rV); do
    missing=
    for module in "${modules[@]}"; do
      [ -f "$cache/kernel/lib/modules/${found##*/vmlinuz-}/kernel/drivers/$module.ko" ] || missing=$module
    done
    if [ -z "$missing" ]; then
      echo "$found"
      return
    fi
  done
}
kernel=$(kernel)
if [ -z "$kernel" ]; then
  dir=$(mktemp -d)
  trap 'remove_tree "$dir"' EXIT
  package=$(apt-cache depends linux-image-cloud-amd64 | sed -n 's/.*Depends: \(linux-image-\)/\1/p' | head -1)
  [ -n "$package" ] || { echo 'apt does not find linux-image-cloud-amd64: run apt-get update' >&2; exit 1; }
  chmod 755 "$dir"
  (cd "$dir" && apt-get download -qq "$package")
  mkdir -p "$cache/kernel"
  files=("${modules[@]/#/*/kernel/drivers/}")
  # if /lib is a symbolic link, packages have ./usr/lib
  dpkg-deb --fsys-tarfile "$dir"/*.deb |
    tar -x -C "$cache/kernel" --wildcards --transform 's,^\./usr/lib/,./lib/,' './boot/vmlinuz-*' \
      "${files[@]/%/.ko*}"
  find "$cache/kernel/lib" -name '*.xz' -exec xz -d {} +
  kernel=$(kernel)
fi
[ -n "$kernel" ] || { echo "$package has no kernel with the modules ${modules[*]}" >&2; exit 1; }
export PACKER_CHROOT_KERNEL=$kernel
go test -count=1 -run '^TestQEMU' -v ./disk ./loopcloud/qemu ./cmd/loopcloud
go test -count=1 -timeout 70m -run '^TestQEMU' -v ./acceptance/kills # separately, because it builds four images in parallel
