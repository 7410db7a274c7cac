#!/usr/bin/env bash
# bench.sh: measures, and writes docs/benchmarks.md with the machine that was measured on.
set -euo pipefail
cd "$(dirname "$0")/.."

if [ "$(id -u)" != 0 ]; then
  echo "benchmarks make block devices: they need root" >&2
  exit 1
fi
if [ -z "${PEER_PLUGIN:-}" ]; then
  echo "the public plugin is measured too: make bench names it in PEER_PLUGIN" >&2
  exit 1
fi
measure() { go test -run '^$' "$@" | tee /dev/stderr | grep ^Benchmark; }
# Many takes minutes a round, and its ratio differs little from one to the next.
results=$(
  measure -bench . -skip '^BenchmarkMany$' -benchtime "${BENCHTIME:-10x}" -timeout 30m ./acceptance ./chroot
  measure -bench '^BenchmarkMany$' -benchtime "${MANYTIME:-3x}" -timeout 30m ./acceptance
)
calls=$(go test -count=1 -run '^TestPeerCalls$' -v ./acceptance | tee /dev/stderr)

{
  cat <<'HEAD'
# Benchmarks

Written by `make bench`. Times are of one machine; what carries over is the ratios, which are of one
run.

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

`Build` is a whole `packer build` of a basic template with one shell provisioner, from an image of 64 MiB, on
`--profile instant`, Packer's own start included; `ms/packer-alone` is `packer build` of the null
builder in the same run, and `%ours` what is left. `Snapshot` is of an 8 GiB volume that holds 200 MB,
and `×cp` its ratio to a `cp` of a file of these 200 MB. `Files` copies a directory into a root on a
block device (`up`) and out of it (`down`), in turn with `cp -a` between the same two file systems;
`×cp's-speed` above 1 is faster than `cp`. `LoopcloudStart` is from exec until a request
is answered. `Run` is a command of the chroot from its request to its exit status, through the keeper and
without one: the difference is what the keeper adds. `Leaving` is from the end of provisioning to a
flushed disk; ten deaf daemons do not listen to SIGTERM, so that the two seconds of grace are in it. `Killed` is
from SIGKILL of the plugin until nothing runs in the chroot, nothing is mounted, and the mount's directory is gone; the
promise is two seconds.

`Many` is sixteen builds at once, as sixteen Packers, against one, on `--profile aws`: what is above 1 is mostly
the sixteen starts of Packer and plugin, which take a processor each. `Calls`
is how often a basic build calls the cloud where that takes a tenth of AWS's time, and how long it takes;
the public amazon plugin (1.2.1) then looks every second, where it would look every ten.

## Calls of the cloud

What `amazon-chroot` and the public amazon plugin (1.2.1) call in one build of the same template, where the
cloud is ready at once. `basic` has the example's options; `published` has `tags`, `ami_users`,
`snapshot_users`, one region in `ami_regions` and `force_deregister` of an AMI in both. A test fails when there
are more calls in all than the public plugin's. `DescribeImageAttribute` is new: who may launch an AMI is read
before it is replaced, so that it can be had back. `CreateTags` is not called: tags are given at creation.
TAIL
  echo "$calls" | sed -nE 's/.*in one build, (.*):$/\n### \1\n/p; s/^ +(\|.*)$/\1/p'
} >docs/benchmarks.md
echo "docs/benchmarks.md is written"
