#!/usr/bin/env bash
# debian-root.sh DIR: creates the directory DIR with root.tar, a minimal Debian, and packages, a repository with nginx and
# the packages that nginx needs beside those of root.tar. Both come from DEBIAN_MIRROR, or from debootstrap's mirror.
set -euo pipefail
dir=$1
. "$(dirname "$0")/remove.sh"
suite=bookworm

mkdir -p "$(dirname "$dir")"
compgen -G "$dir.*" | while read -r left; do remove_tree "$left"; done || true # of a run that was killed
work=$(cd "$(mktemp -d "$dir.XXXXXX")" && pwd)
trap 'remove_tree "$work"' EXIT
root=$work/root
# quietly COMMAND: runs a command and prints its output only if it fails.
quietly() { "$@" >"$work/log" 2>&1 || { tail -n 20 "$work/log" >&2; return 1; }; }

quietly debootstrap --variant=minbase "$suite" "$root" ${DEBIAN_MIRROR:+"$DEBIAN_MIRROR"}
cp -L /etc/resolv.conf "$root/etc/resolv.conf"
quietly chroot "$root" apt-get update
mkdir -p "$root/packages/partial" "$work/new"
quietly chroot "$root" apt-get install -y --download-only -o Dir::Cache::Archives=/packages nginx

packages=$work/new/packages
mkdir "$packages"
mv "$root"/packages/*.deb "$packages"
remove_tree "$root/packages"
chmod 644 "$packages"/*
for deb in "$packages"/*.deb; do
  dpkg-deb --field "$deb"
  printf 'Filename: ./%s\nSize: %s\nSHA256: %s\n\n' "$(basename "$deb")" "$(stat -c %s "$deb")" "$(sha256sum <"$deb" | cut -d' ' -f1)"
done >"$packages/Packages"

remove_tree "$root/var/lib/apt/lists"
mkdir -p "$root/var/lib/apt/lists/partial"
rm -f "$root"/var/cache/apt/*.bin "$root"/var/log/*.log
tar -C "$root" --numeric-owner -cf "$work/new/root.tar" .
mv -T "$work/new" "$dir"
