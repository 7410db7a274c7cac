#!/usr/bin/env bash
# generate.sh [--check]: writes the generated files: *.hcl2spec.go, docs-partials and .web-docs.
# --check changes nothing, and fails if a generated file is stale.
# The sections that both builders share are in docs-partials/shared, and are not generated.
#
# It works on a copy of the checkout whose name begins with packer-plugin-, because packer-sdc's
# struct-markdown searches for a parent directory with such a name, and never ends without one.
set -euo pipefail
cd "$(dirname "$0")/.."
. tools/remove.sh
repo=$PWD
mode=${1:-}

sdc=${PACKER_SDC:-$repo/bin/packer-sdc}
[ -x "$sdc" ] || { echo "no $sdc: make sdc builds it" >&2; exit 1; }

work=$(mktemp -d)
trap 'remove_tree "$work"' EXIT
copy=$work/packer-plugin-chroot
mkdir -p "$copy" "$work/bin"
ln -s "$(readlink -f "$sdc")" "$work/bin/packer-sdc"
git ls-files -z --cached --others --exclude-standard -- '*.go' '*go.mod' '*go.sum' 'docs/builders' 'docs-partials/shared' '.web-docs/metadata.hcl' |
  while IFS= read -r -d '' file; do
    # generated files are not copied, so a file that is no longer generated disappears
    case $file in *.hcl2spec.go) continue ;; esac
    [ ! -e "$file" ] || { mkdir -p "$copy/$(dirname "$file")" && cp "$file" "$copy/$file"; }
  done

cd "$copy"
# Without the generated methods a package does not type-check; packer-sdc only warns about it.
PATH=$work/bin:$PATH go generate ./builder/... ./amazon/... ./osc/...

packer-sdc() { "$work/bin/packer-sdc" "$@"; }
packer-sdc renderdocs -src docs/builders -partials docs-partials -dst "$work/rendered" 2>"$work/log" ||
  { cat "$work/log" >&2; exit 1; }
for page in "$work"/rendered/*.mdx; do
  out=.web-docs/components/builder/$(basename "$page" .mdx)/README.md
  mkdir -p "$(dirname "$out")"
  # the front matter is for web sites; a README begins with its heading
  awk 'NR == 1 && /^---$/ { front = 1; next } front && /^---$/ { front = 0; next } !front' "$page" | sed '/./,$!d' >"$out"
done
gofmt -l . | { ! grep . ; }

# made DIR: lists the generated files of a checkout
made() { (cd "$1" && find . \( -path ./bin -o -path ./.git \) -prune -o -type f \( -name '*.hcl2spec.go' -o -path './docs-partials/*' -o -path './.web-docs/components/*' \) -print | sort); }

if [ "$mode" = --check ]; then
  stale=0
  while read -r file; do
    cmp -s "$repo/$file" "$copy/$file" || { echo "stale: $file" >&2; stale=1; }
  done < <({ made "$repo"; made "$copy"; } | sort -u)
  [ $stale = 0 ] || { echo 'run make generate, and commit' >&2; exit 1; }
  exit 0
fi
made "$repo" | while read -r file; do [ -e "$copy/$file" ] || rm "$repo/$file"; done
made "$copy" | while read -r file; do
  mkdir -p "$repo/$(dirname "$file")"
  cmp -s "$repo/$file" "$copy/$file" || cp "$copy/$file" "$repo/$file"
done
