#!/usr/bin/env bash
# test.sh CACHE [acceptance]: everything, or the acceptance tests alone.
set -euo pipefail
cache=$1 what=${2:-all}
cd "$(dirname "$0")/.."

left_out=()
if [ "$(id -u)" != 0 ]; then
  left_out+=("tests with block devices, mounts and real builds (not root)")
fi
for need in parted sfdisk mkfs.ext4 mkfs.xfs mkfs.btrfs mkfs.vfat busybox /usr/bin/aws gcc ansible-playbook curl openssl; do
  command -v "$need" >/dev/null || left_out+=("what needs $need (not installed)")
done
if [ "${CI:-}" = true ] && [ ${#left_out[@]} -gt 0 ]; then
  printf 'cannot be left out in CI: %s\n' "${left_out[@]}" >&2
  exit 1
fi

if [ "$what" = all ]; then
  go vet ./...
  # Tests that mount go one package after the other: a mount namespace that one of them makes
  # holds, for its moment, what the others have mounted. They wait for the kernel more than
  # they work, so there is room for the rest beside them. Packages in which goroutines share state
  # are tested with the race detector.
  mounting='/(chroot|disk|loopcloud/volume)$' failed=
  shared='/(undo|bake|retry|builder|loopcloud/state|loopcloud/fault)(/.*)?$|/packer-plugin-chroot/loopcloud$'
  {
    go test -timeout 40m -p 1 $(go list ./... | grep -E "$mounting") || exit 1
    go test -timeout 40m -run '^TestMachineOnARealDisk$' ./bake
  } &
  mounting_tests=$!
  go test -timeout 40m $(go list ./... | grep -vE "/acceptance\$|$mounting|$shared") || failed=yes
  go test -timeout 40m -race -skip '^TestMachineOnARealDisk$' $(go list ./... | grep -E "$shared") || failed=yes
  wait "$mounting_tests" || failed=yes
  [ -z "$failed" ] || exit 1
fi
# Builds wait more than they work: there is room for more of them than cores.
LOOPCLOUD_CACHE="$cache" go test -count=1 -timeout 40m -parallel 6 ./acceptance/...

if [ ${#left_out[@]} -gt 0 ]; then
  printf 'left out: %s\n' "${left_out[@]}"
fi
