#!/usr/bin/env bash
# install.sh PACKER PLUGIN…: installs bin/PLUGIN for PACKER.
set -euo pipefail
packer=$1
shift
cd "$(dirname "$0")/.."
for plugin in "$@"; do
  "$packer" plugins install --path "bin/$plugin" "github.com/packer-chroot/${plugin#packer-plugin-}"
done
