#!/usr/bin/env bash
# setup.sh: installs the programs that the demo and the tests need, on Debian as root. On other
# systems it lists the missing programs.
set -euo pipefail

# command:package
needs=(
  mkfs.ext4:e2fsprogs debugfs:e2fsprogs mkfs.xfs:xfsprogs mkfs.btrfs:btrfs-progs mkfs.vfat:dosfstools parted:parted sfdisk:fdisk busybox:busybox-static
  losetup:mount setfattr:attr gcc:gcc git:git /usr/bin/aws:awscli setsid:util-linux ansible-playbook:ansible
  sudo:sudo curl:curl openssl:openssl debootstrap:debootstrap
)
# only for make qemu and make boot
[ -z "${QEMU:-}${BOOT:-}" ] || needs+=(qemu-system-x86_64:qemu-system-x86)
[ -z "${BOOT:-}" ] || needs+=(mcopy:mtools)
# only for make browser
[ -z "${BROWSER:-}" ] || needs+=(chromium:chromium)
missing=()
for need in "${needs[@]}"; do
  command -v "${need%%:*}" >/dev/null || missing+=("${need##*:}")
done
[ -z "${QEMU:-}${BOOT:-}" ] || [ -d /usr/share/OVMF ] || missing+=(ovmf)
# the race detector links against the C library
[ -e /usr/include/stdlib.h ] || missing+=(libc6-dev)
[ ${#missing[@]} -gt 0 ] || exit 0

if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
  echo "missing Debian packages: ${missing[*]}" >&2
  echo "install them (apt-get install ${missing[*]}), or run make as root on Debian" >&2
  [ "${CI:-}" != true ] || exit 1
  exit 0
fi
echo "installing ${missing[*]}"
export DEBIAN_FRONTEND=noninteractive
apt-get update -qq
apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
