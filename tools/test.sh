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

# Compilers and tests end before they use much memory, so less garbage collection saves time.
export GOGC=${GOGC:-400}

CGO_ENABLED=0 go build -o bin/testsummary ./tools/testsummary
. tools/memorydir.sh
use_memory_dir
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
  release_memory_dir
}
trap finish EXIT

# stage NAME ARGS: runs go test with the arguments. Programs without symbols are linked in half the time; go vet has
# run already.
stage() {
  local name=$1 failed=
  shift
  go test -json -vet=off -ldflags=-s "$@" 9>&- | bin/testsummary "$name" "$summaries/$name" || failed=yes
  [ -z "$failed" ] && return
  [ -e "$summaries/$name" ] || echo "$name failed: go test ended with an error" >"$summaries/$name"
  return 1
}

# acceptance runs real builds. They mostly wait, so more of them run in parallel than there are cores.
acceptance() { LOOPCLOUD_CACHE="$cache" stage acceptance -count=1 -timeout 25m -p 3 -parallel 3 ./acceptance/...; }

# mounting runs the tests that mount or that create mount namespaces, one package after the other: a new mount namespace
# holds the mounts of other tests as long as it exists.
mounts='/(chroot(/.*)?|disk|lazydisk|loopcloud/(ebs|volume)|remove|testdir)$'
mounting() {
  local failed=
  stage mounting -timeout 40m -p 1 $(go list ./... | grep -v /acceptance/ | grep -E "$mounts") || failed=yes
  stage machine -timeout 40m -run '^TestMachineOn' ./bake || failed=yes
  [ -z "$failed" ]
}

# unit runs the rest, and race those packages of it whose goroutines share state, with the race detector. Many tests of
# unit wait for a time limit, so more packages run in parallel than there are cores.
shared='/(undo|bake|retry|builder|loopcloud/state|loopcloud/fault)(/.*)?$|/lazydisk/(cache|cow|fetch|overlay|rpc)$|/packer-plugin-chroot/loopcloud$'
unit() { stage unit -timeout 40m -p 4 $(go list ./... | grep -vE "/acceptance/|$mounts|$shared"); }
race() { stage race -timeout 40m -race -skip '^TestMachineOn' $(go list ./... | grep -E "$shared"); }

if [ "$what" = acceptance ]; then
  acceptance || exit 1
else
  go vet ./... || { echo 'vet failed' >"$summaries/vet"; exit 1; }
  # Acceptance comes last and alone: it would keep both cores busy, and the tests of the packages would wait for them.
  # It is in the foreground: the shell has commands in the background ignore SIGINT, and builds are tested with that.
  stages=() failed=
  for name in mounting unit race; do
    $name &
    stages+=($!)
  done
  for pid in "${stages[@]}"; do wait "$pid" || failed=yes; done
  [ -z "$failed" ] || exit 1
  acceptance || exit 1
fi

if [ ${#left_out[@]} -gt 0 ]; then
  printf 'left out: %s\n' "${left_out[@]}"
fi
