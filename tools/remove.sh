# remove.sh, to be sourced: remove_tree DIR… removes directories recursively. It removes nothing of
# a directory with a mount at or below it, and does not follow symbolic links.
remove_tree() {
  local dir mounts
  for dir; do
    if [ -L "$dir" ]; then
      rm -- "$dir" || return
      continue
    fi
    [ -e "$dir" ] || continue
    dir=$(cd "$dir" && pwd -P) || return
    mounts=
    if [ -r /proc/self/mountinfo ]; then # a space is \040 there
      mounts=$(cut -d' ' -f5 /proc/self/mountinfo | while IFS= read -r m; do printf '%b\n' "${m//\\/\\0}"; done |
        REMOVE_TREE=$dir awk 'index($0 "/", ENVIRON["REMOVE_TREE"] "/") == 1')
    fi
    if [ -n "$mounts" ]; then
      printf 'not removed: %s, something is mounted there:\n%s\n' "$dir" "$mounts" >&2
      return 1
    fi
    find "$dir" -xdev -delete || return
  done
}
