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
measure() { go test -run '^$' "$@" | tee -a /dev/stderr | grep ^Benchmark; }
# A round of Many takes minutes, and its ratio varies little between rounds. A build of Waits takes most of one minute,
# and a round of Direct almost three.
results=$(
  measure -p 1 -bench . -skip '^Benchmark(Many|Waits|Direct|Upload)$' -benchtime "${BENCHTIME:-10x}" -timeout 30m ./acceptance/build ./acceptance/chroot ./chroot
  measure -bench '^BenchmarkMany$' -benchtime "${MANYTIME:-3x}" -timeout 30m ./acceptance/build
  measure -bench '^BenchmarkWaits$' -benchtime "${WAITSTIME:-5x}" -timeout 30m ./acceptance/build
  measure -bench '^BenchmarkDirect$' -benchtime "${DIRECTTIME:-3x}" -timeout 30m ./acceptance/build
  measure -bench '^BenchmarkUpload$' -benchtime "${DISKTIME:-5x}" -timeout 30m ./acceptance/build
  measure -bench '^Benchmark(SequentialRead|Changes|Memory)$' -benchtime "${DISKTIME:-5x}" -timeout 30m ./lazydisk
)
calls=$(go test -count=1 -run '^TestPeerCalls$' -v ./acceptance/build | tee -a /dev/stderr)

{
  cat <<'HEAD'
# Benchmarks

`make bench` writes this page. The times apply to one machine only. The ratios also apply to others, because each
compares times of the same run.

HEAD
  echo "Machine: $(nproc) cores ($(sed -nE 's/^model name\s*: //p' /proc/cpuinfo | head -n 1)), $(awk '/MemTotal/ {printf "%.0f GiB", $2/1048576}' /proc/meminfo), Linux $(uname -r | cut -d. -f1-2), root file system $(stat -f -c %T .), $(go version | cut -d' ' -f3), $(bin/packer version | head -n 1)."
  cat <<'HEAD'

| Measured | Figures |
|---|---|
HEAD
  echo "$results" | awk '{
    name = $1; sub(/-[0-9]+$/, "", name); sub(/^Benchmark/, "", name); line = ""
    for (i = 3; i < NF; i += 2) {
      if ($(i + 1) == "ns/op") continue
      line = line (line == "" ? "" : ", ") sprintf($i < 10 ? "%.2f" : "%.1f", $i) " " $(i + 1)
    }
    print "| `" name "` | " line " |"
  }'
  for program in packer-plugin-amazon-chroot packer-plugin-osc-chroot loopcloud; do
    echo "| size of \`$program\` | $(stat -L -c %s "bin/$program" | awk '{printf "%.1f MB", $1/1000000}') |"
  done
  cat <<'TAIL'

| Benchmark | Subject |
|---|---|
| `Build` | a `packer build` of a basic template with one shell provisioner, from an image of 64 MiB, on `--profile instant`. `ms/packer-alone` is a `packer build` of the null builder, and `%ours` is the share of the rest |
| `LoopcloudStart` | from exec to the first response |
| `Snapshot` | a snapshot of an 8 GiB volume that contains 200 MB; `×cp` is its time relative to a `cp` of 200 MB |
| `Describe` | the plugin's command `describe`, which Packer runs at each start |
| `Leaving` | from the end of provisioning to a flushed disk, with no remaining process, ten daemons, or ten daemons that ignore SIGTERM (`ten-deaf-daemons`), which includes the grace period of two seconds |
| `Killed` | from SIGKILL of the plugin until the processes in the chroot, the mounts and the mount's directory are gone; the limit is two seconds |
| `Files` | copying a directory into a root on a block device (`up`) and out of it (`down`), and `cp -a` between the same file systems; a `×cp's-speed` above 1 is faster than `cp` |
| `Run` | a command in the chroot from its request to its exit status, without the keeper and with it |
| `Calls` | the number of API calls and the duration of a basic build with a tenth of AWS's delays. The public amazon plugin (1.2.1) polls every second here, instead of every ten |
| `Many` | sixteen parallel builds, in sixteen Packer processes, and one build, on `--profile aws`. `×one` is above 1 mostly because Packer and the plugin start sixteen times |
| `Waits` | the time of a basic build on `--profile aws` and `--profile outscale` above the cloud's own path (volume, attachment, snapshot, image), which is computed from the profile; medians of five builds, of which the first knows no earlier waits. `ms-if-ready-at-once` is the same build on `--profile instant`, in the same run |
| `Direct` | a build of one template on `--profile aws`, by the public amazon plugin (1.2.1) and by `amazon-chroot`: with a volume, with `ebs_direct` and an empty block cache (`cold`), and with `ebs_direct` again (`warm`); medians. `path` is the cloud's own time, computed from the profile: volume, attachment, snapshot and image, or with `ebs_direct` completion of the snapshot and image |
| `Upload` | the upload of 1 GiB of changed blocks on `--profile instant`, from the end of provisioning to the request that completes the snapshot; the median of five. `%of-all-cores` is the part of the machine's processor time that is used meanwhile, and loopcloud's share is work that AWS does elsewhere |
| `SequentialRead` | reading a file of 1 GiB from a disk of a direct build whose blocks are in the block cache, and from a loop device over a plain file |
| `Changes` | reading 1 GiB of changed blocks from the block server, as an upload does |
| `Memory` | the resident memory of the block server after a disk of 64 GiB was read, written and discarded all over; `TestMemory` fails above 128 MiB |

## API calls of a build

These tables list the API calls of `amazon-chroot` and of the public amazon plugin (1.2.1) in one build of the same
template, if the cloud is ready at once. `basic` has the options of the basic example. `published` has `tags`,
`ami_users`, `snapshot_users`, one region in `ami_regions`, and `force_deregister` with an AMI of the same name in both
regions. A test fails if `amazon-chroot` makes more calls in total than the public plugin.

`DescribeImageAttribute` reads the launch permissions of an image before it is replaced, so that they can be restored.
`GetEbsEncryptionByDefault` shows whether a shared copy would be encrypted. `CreateTags` is not called, because tags
are set at creation.
TAIL
  echo "$calls" | sed -nE 's/.*in one build, (.*):$/\n### \1\n/p; s/^ +(\|.*)$/\1/p'
} >docs/benchmarks.md
echo "wrote docs/benchmarks.md"
