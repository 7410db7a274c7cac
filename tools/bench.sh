#!/usr/bin/env bash
# bench.sh: runs the benchmarks and writes docs/benchmarks.md.
set -euo pipefail
cd "$(dirname "$0")/.."

if [ "$(id -u)" != 0 ]; then
  echo "the benchmarks need root, because they create block devices" >&2
  exit 1
fi
if [ -z "${PEER_PLUGIN:-}" ]; then
  echo "PEER_PLUGIN is not set: run make bench, which sets it to the public plugin" >&2
  exit 1
fi
measure() { go test -run '^$' "$@" | tee /dev/stderr | grep ^Benchmark; }
# A round of Many takes minutes, and its ratio varies little between rounds.
results=$(
  measure -p 1 -bench . -skip '^BenchmarkMany$' -benchtime "${BENCHTIME:-10x}" -timeout 30m ./acceptance/build ./acceptance/chroot ./chroot
  measure -bench '^BenchmarkMany$' -benchtime "${MANYTIME:-3x}" -timeout 30m ./acceptance/build
)
calls=$(go test -count=1 -run '^TestPeerCalls$' -v ./acceptance/build | tee /dev/stderr)

{
  cat <<'HEAD'
# Benchmarks

Written by `make bench`. The times are those of one machine. The ratios, each from a single run, also apply to other
machines.

HEAD
  echo "Machine: $(nproc) cores ($(sed -nE 's/^model name\s*: //p' /proc/cpuinfo | head -n 1)), $(awk '/MemTotal/ {printf "%.0f GiB", $2/1048576}' /proc/meminfo), Linux $(uname -r | cut -d. -f1-2), root file system $(stat -f -c %T .), $(go version | cut -d' ' -f3), $(bin/packer version | head -n 1)."
  cat <<'HEAD'

| Measured | Figures |
|---|---|
HEAD
  echo "$results" | awk '{
    name = $1; sub(/-[0-9]+$/, "", name); sub(/^Benchmark/, "", name); line = ""
    for (i = 5; i < NF; i += 2) line = line (line == "" ? "" : ", ") sprintf("%.1f", $i) " " $(i + 1)
    print "| `" name "` | " line " |"
  }'
  for program in packer-plugin-amazon-chroot packer-plugin-osc-chroot loopcloud; do
    echo "| size of \`$program\` | $(stat -L -c %s "bin/$program" | awk '{printf "%.1f MB", $1/1000000}') |"
  done
  cat <<'TAIL'

`Build` is a complete `packer build` of a basic template with one shell provisioner, from an image of 64 MiB, on
`--profile instant`, including Packer's own start. `ms/packer-alone` is `packer build` of the null builder in the same
run, and `%ours` is the rest. `Snapshot` is a snapshot of an 8 GiB volume that contains 200 MB, and `×cp` its ratio to
a `cp` of a file of these 200 MB. `Files` copies a directory into a root on a block device (`up`) and out of it
(`down`), alternating with `cp -a` between the same two file systems; `×cp's-speed` above 1 is faster than `cp`.
`LoopcloudStart` is the time from exec to the first response. `Run` is the time of a command in the chroot from its
request to its exit status, through the keeper and without one; the difference is the cost of the keeper. `Leaving` is
the time from the end of provisioning to a flushed disk; ten deaf daemons ignore SIGTERM, so it includes the grace
period of two seconds. `Killed` is the time from SIGKILL of the plugin until nothing runs in the chroot, nothing is
mounted, and the mount's directory is removed; the limit is two seconds.

`Many` compares sixteen parallel builds, as sixteen Packer processes, with one, on `--profile aws`. The excess over 1
is mostly the sixteen starts of Packer and plugin, which use one processor each. `Calls` is the number of calls of a
basic build, and its duration, with a tenth of AWS's times. The public amazon plugin (1.2.1) then polls every second,
instead of every ten.

## Calls of the cloud

These tables list the calls of `amazon-chroot` and of the public amazon plugin (1.2.1) in one build of the same
template, if the cloud is ready at once. `basic` has the options of the basic example; `published` has `tags`,
`ami_users`, `snapshot_users`, one region in `ami_regions` and `force_deregister` of an AMI in both regions. A test
fails if the total is higher than the public plugin's. `DescribeImageAttribute` reads the launch permissions of an
image before it is replaced, so that they can be restored. `GetEbsEncryptionByDefault` shows whether a shared copy
would be encrypted. `CreateTags` is not called, because tags are set at creation.
TAIL
  echo "$calls" | sed -nE 's/.*in one build, (.*):$/\n### \1\n/p; s/^ +(\|.*)$/\1/p'
} >docs/benchmarks.md
echo "wrote docs/benchmarks.md"
