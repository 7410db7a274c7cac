#!/usr/bin/env bash
# packer.sh CACHE OUT: links OUT to the packer on the PATH if it is 1.11 or newer, and otherwise
# builds one.
set -euo pipefail
cache=$1 out=$2
cd "$(dirname "$0")/.."

# Fedora and others have another program of this name (cracklib's), so run it with a time limit.
if found=$(command -v packer) && version=$(timeout 10 "$found" version 2>/dev/null </dev/null | sed -nE '1s/^Packer v([0-9.]+).*/\1/p') &&
  [ -n "$version" ] && [ "$(printf '%s\n' 1.11.0 "$version" | sort -V | head -n 1)" = 1.11.0 ]; then
  mkdir -p "$(dirname "$out")"
  ln -sfn "$found" "$out"
  exit 0
fi
exec tools/tool.sh "$cache" packer github.com/hashicorp/packer "$out"
