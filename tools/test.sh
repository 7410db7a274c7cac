#!/usr/bin/env bash
# test.sh CACHE [acceptance]: runs all tests, or only the acceptance tests. If a stage fails, the last lines of the output
# name it, the tests that failed and, after a timeout, the tests that were running, and for how long.
set -euo pipefail
cache=$1 what=${2:-all}
cd "$(dirname "$0")/.."
. tools/remove.sh

left_out=()
if [ "$(id -u)" != 0 ]; then
  left_out+=("tests with block devices, mounts and real builds (not root)")
fi
for need in parted sfdisk mkfs.ext4 mkfs.xfs mkfs.btrfs mkfs.vfat busybox /usr/bin/aws gcc ansible-playbook curl openssl; do
  command -v "$need" >/dev/null || left_out+=("tests that need $need (not installed)")
done
if [ "${CI:-}" = true ] && [ ${#left_out[@]} -gt 0 ]; then
  printf 'cannot be left out in CI: %s\n' "${left_out[@]}" >&2
  exit 1
fi

CGO_ENABLED=0 go build -o bin/testsummary ./tools/testsummary
summaries=$(mktemp -d)
# finish prints the summaries of the failed stages. It runs however this script ends.
finish() {
  local status=$?
  set +e
  if compgen -G "$summaries/*" >/dev/null; then
    echo
    cat "$summaries"/*
  elif [ $status != 0 ]; then
    echo "tests ended with exit status $status"
  fi
  remove_tree "$summaries"
}
trap finish EXIT

# stage NAME ARGS: runs go test with the arguments.
stage() {
  local name=$1 failed=
  shift
  go test -json "$@" | bin/testsummary "$name" "$summaries/$name" || failed=yes
  [ -z "$failed" ] && return
  [ -e "$summaries/$name" ] || echo "$name failed: go test ended with an error" >"$summaries/$name"
  return 1
}

if [ "$what" = all ]; then
  go vet ./... || { echo 'vet failed' >"$summaries/vet"; exit 1; }
  # Tests that mount run one package after the other, because a new mount namespace of one test
  # holds the mounts of the others as long as it exists. They mostly wait for the kernel, so the
  # other tests run in parallel.
  mounting='/(bake|chroot|disk|loopcloud/volume)$' failed=
  stage mounting -timeout 40m -p 1 $(go list ./... | grep -E "$mounting") &
  mounting_tests=$!
  stage unit -timeout 40m $(go list ./... | grep -vE "/acceptance(/|\$)|$mounting") || failed=yes
  # packages with shared state between goroutines, without the tests that mount
  stage race -timeout 40m -race -skip '^TestMachineOnARealDisk$' \
    ./undo/... ./bake/... ./retry/... ./builder/... ./loopcloud ./loopcloud/state/... ./loopcloud/fault/... || failed=yes
  wait "$mounting_tests" || failed=yes
  [ -z "$failed" ] || exit 1
fi
# Builds mostly wait, so more of them run in parallel than there are cores.
LOOPCLOUD_CACHE="$cache" stage acceptance -count=1 -timeout 25m -parallel 6 ./acceptance/... || exit 1

if [ ${#left_out[@]} -gt 0 ]; then
  printf 'left out: %s\n' "${left_out[@]}"
fi
