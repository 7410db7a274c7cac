#!/usr/bin/env bash
# tool.sh CACHE MODULE PACKAGE OUT: builds a tool from its module under tools/ into the cache,
# under a name with a hash of its source, and links it to OUT.
set -euo pipefail
cache=$1 module=$2 package=$3 out=$4
cd "$(dirname "$0")/.."

stamp=$({ go version; cat "tools/$module/go.mod" "tools/$module/go.sum"; } | sha256sum | cut -c1-16)
built=$cache/tools/$(basename "$out")-$stamp
if [ ! -x "$built" ]; then
  echo "building $(basename "$out") (once; kept in $cache)"
  mkdir -p "$cache/tools"
  (cd "tools/$module" && CGO_ENABLED=0 go build -trimpath -ldflags "-s -w" -o "$built.$$" "$package")
  mv "$built.$$" "$built"
fi
mkdir -p "$(dirname "$out")"
ln -sfn "$built" "$out"
