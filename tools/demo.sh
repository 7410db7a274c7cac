#!/usr/bin/env bash
# demo.sh: imports an image into a cloud on this machine, builds images from it with osc-chroot,
# with amazon-chroot, and with amazon-chroot without an instance, and shows them.
set -euo pipefail
cd "$(dirname "$0")/.."
. tools/remove.sh
repo=$PWD

if [ "$(uname -s)" != Linux ] || [ "$(id -u)" != 0 ]; then
  echo "the demo needs Linux and root, because it creates and mounts block devices" >&2
  exit 1
fi
say() { printf '\n\033[1m== %s\033[0m\n' "$*"; }

work=$(mktemp -d "${TMPDIR:-/tmp}/packer-chroot-demo.XXXXXX")
trap 'remove_tree "$work"' EXIT
export PACKER_PLUGIN_PATH=$work/plugins PACKER_CONFIG_DIR=$work/config CHECKPOINT_DISABLE=1
export LOOPCLOUD_DIR=$work/cloud PACKER_CHROOT_BLOCK_CACHE=$work/blocks

say "a source image: a root file system of one busybox"
tools/busybox-root.sh "$work/root"
bin/loopcloud image import --dir "$LOOPCLOUD_DIR" --name busybox --id ami-e81d5881 "$work/root"

say "the plugins, installed for $(bin/packer version | head -n 1)"
tools/install.sh bin/packer packer-plugin-osc-chroot packer-plugin-amazon-chroot

for builder in osc-chroot amazon-chroot; do
  say "packer build examples/$builder/basic.pkr.hcl, on loopcloud"
  (cd "$work" && "$repo/bin/loopcloud" run --dir "$LOOPCLOUD_DIR" -- \
    "$repo/bin/packer" build -color=false -var source=ami-e81d5881 "$repo/examples/$builder/basic.pkr.hcl")
done

say "packer build examples/amazon-chroot/direct.pkr.hcl, on a machine that is no instance of loopcloud"
(cd "$work" && "$repo/bin/loopcloud" run --dir "$LOOPCLOUD_DIR" --hosts 0 -- \
  "$repo/bin/packer" build -color=false -var source=ami-e81d5881 "$repo/examples/amazon-chroot/direct.pkr.hcl")

say "the reports, to open in a browser"
for builder in osc-chroot amazon-chroot; do
  cp "$work/$builder.report.html" "$work/$builder.report.json" "$work/$builder.report.trace.json" bin/
  echo "$repo/bin/$builder.report.html"
done

say "the images of the cloud"
bin/loopcloud image list --dir "$LOOPCLOUD_DIR"

say "the files of the provisioners, read from the images' exported disks"
bin/loopcloud image list --dir "$LOOPCLOUD_DIR" --json |
  sed -nE 's/.*"id": *"(ami-[0-9a-f]+)".*/\1/p' | while read -r id; do
    [ "$id" != ami-e81d5881 ] || continue
    bin/loopcloud image export --dir "$LOOPCLOUD_DIR" "$id" "$work/$id.raw" >/dev/null
    # the root partition starts at 1 MiB
    echo "$id: /etc/motd: $(debugfs -R 'cat /etc/motd' "$work/$id.raw?offset=1048576" 2>/dev/null)"
    rm "$work/$id.raw"
  done
