#!/usr/bin/env bash
# fuzz.sh TIME: runs every fuzz target of the module for TIME each.
set -euo pipefail
cd "$(dirname "$0")/.."
output=$(mktemp)
trap 'rm -f "$output"' EXIT
run() { go test -run '^$' -fuzz "^$1\$" -fuzztime "$2" "$3" </dev/null 2>&1 | tee "$output"; }
# cut_off reports whether the last run only failed because its time ended while it was busy, as it does on a loaded machine.
cut_off() { grep -q 'context deadline exceeded' "$output" && ! grep -q 'Failing input' "$output"; }
grep -rlE '^func Fuzz' --include='*_test.go' . | while read -r file; do
  sed -nE 's/^func (Fuzz[A-Za-z0-9_]*)\(.*/\1/p' "$file" | while read -r target; do
    echo "$(dirname "$file") $target"
    if ! run "$target" "$1" "$(dirname "$file")"; then
      cut_off || exit 1
      run "$target" "$1" "$(dirname "$file")"
    fi
  done
done
