#!/usr/bin/env bash
# busybox-root.sh DIR: creates a root file system with one static busybox in DIR.
set -euo pipefail
root=$1
mkdir -p "$root"/{bin,dev,etc,proc,root,run,sys,tmp,usr/bin,usr/sbin,var/tmp}
chmod 1777 "$root/tmp" "$root/var/tmp"
cp "$(command -v busybox)" "$root/bin/busybox"
for applet in $("$root/bin/busybox" --list); do
  [ "$applet" = busybox ] || ln -s busybox "$root/bin/$applet"
done
echo 'root:x:0:0:root:/root:/bin/sh' >"$root/etc/passwd"
echo 'root:x:0:' >"$root/etc/group"
echo busybox >"$root/etc/hostname"
printf 'NAME=busybox\nID=busybox\n' >"$root/etc/os-release"
