#!/usr/bin/env bash
# boot.sh CACHE: builds the examples of a Debian from scratch on loopcloud, and boots their images
# until the login prompt appears. Debian's packages are cached in CACHE.
set -euo pipefail
cache=$1
cd "$(dirname "$0")/.."
. tools/remove.sh
repo=$PWD

if [ "$(uname -s)" != Linux ] || [ "$(id -u)" != 0 ]; then
  echo "make boot needs Linux and root, because it creates and mounts block devices" >&2
  exit 1
fi
work=$(mktemp -d "${TMPDIR:-/tmp}/packer-chroot-boot.XXXXXX")
trap 'kill $(jobs -p) 2>/dev/null || true; wait; remove_tree "$work"' EXIT
export PACKER_PLUGIN_PATH=$work/plugins PACKER_CONFIG_DIR=$work/config CHECKPOINT_DISABLE=1
tools/install.sh bin/packer packer-plugin-osc-chroot packer-plugin-amazon-chroot
mkdir -p "$cache/debian"

# build EXAMPLE: builds an example in its own cloud, which then contains only its image.
build() {
  local example=$1 begun=$SECONDS
  mkdir -p "$work/$example"
  (cd "$work" && "$repo/bin/loopcloud" run --dir "$work/$example/cloud" -- \
    "$repo/bin/packer" build -color=false -var "cache=$cache/debian" "$repo/examples/$example.pkr.hcl") >"$work/$example/log" 2>&1 ||
    { cat "$work/$example/log"; return 1; }
  echo "$example: built in $((SECONDS - begun)) s"
}

# boot EXAMPLE: boots the image of an example and prints the last line of its console.
boot() {
  local example=$1 begun=$SECONDS id
  id=$(bin/loopcloud image list --dir "$work/$example/cloud" --json | sed -nE 's/.*"id": *"(ami-[0-9a-f]+)".*/\1/p')
  bin/loopcloud image boot --dir "$work/$example/cloud" --timeout 10m "$id" >"$work/$example/console"
  echo "$example: $id showed the login prompt after $((SECONDS - begun)) s: $(tail -n 1 "$work/$example/console")"
}

# In parallel, except the first time, when the cache is filled.
filled=$(ls "$cache/debian")
jobs=()
for example in amazon-chroot/debian-bios amazon-chroot/debian-uefi osc-chroot/debian-bios; do
  { build "$example" && boot "$example"; } &
  jobs+=($!)
  [ -n "$filled" ] || wait $!
done
for job in "${jobs[@]}"; do
  wait "$job"
done
