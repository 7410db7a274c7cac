#!/usr/bin/env bash
# qemu.sh CACHE: the tests that run a virtual machine, with a kernel of Debian that is unpacked
# into CACHE and not installed.
set -euo pipefail
cache=$1
export AWS_EC2_METADATA_DISABLED=true
cd "$(dirname "$0")/.."

command -v qemu-system-x86_64 >/dev/null && command -v busybox >/dev/null || {
  echo 'missing: qemu-system-x86_64 and busybox (apt-get install qemu-system-x86 busybox-static)' >&2
  exit 1
}
kernel=$(find "$cache/kernel" -name 'vmlinuz-*' 2>/dev/null | sort -V | tail -1 || true)
if [ -z "$kernel" ]; then
  dir=$(mktemp -d)
  trap 'rm -rf "$dir"' EXIT
  package=$(apt-cache depends linux-image-cloud-amd64 | sed -n 's/.*Depends: \(linux-image-\)/\1/p' | head -1)
  [ -n "$package" ] || { echo 'apt knows no linux-image-cloud-amd64: run apt-get update' >&2; exit 1; }
  chmod 755 "$dir"
  (cd "$dir" && apt-get download -qq "$package")
  mkdir -p "$cache/kernel"
  dpkg-deb --fsys-tarfile "$dir"/*.deb | tar -x -C "$cache/kernel" ./boot
  kernel=$(find "$cache/kernel" -name 'vmlinuz-*' | sort -V | tail -1)
fi
PACKER_CHROOT_KERNEL=$kernel go test -count=1 -run '^TestQEMU' -v ./disk ./loopcloud/qemu ./cmd/loopcloud
