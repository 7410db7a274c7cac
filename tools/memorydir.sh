# memorydir.sh, to be sourced. The tests create and delete many small files, which takes a multiple of the time on a disk
# (ext4 without a journal looks for an inode that was not deleted recently), so a machine with enough memory has them in
# memory. The directory is the same for all runs, so that a run finds the leftovers of one that was killed.
memory_dir=/tmp/chroot-tests

# use_memory_dir sets TMPDIR to a directory in memory, unless TMPDIR is set, /tmp is in memory, this user cannot mount, or
# less than 8 GiB of memory are available. File descriptor 9 is a lock that all runs share; programs that may run longer
# than this script must not get it.
use_memory_dir() {
  [ "$(id -u)" = 0 ] && [ -z "${TMPDIR:-}" ] && [ "$(stat -f -c %T /tmp)" != tmpfs ] || return 0
  [ "$(awk '/^MemAvailable/ {print int($2 / 1048576)}' /proc/meminfo)" -ge 8 ] || return 0
  exec 9>/run/lock/chroot-tests.lock
  flock --shared 9
  mkdir -p "$memory_dir"
  [ -O "$memory_dir" ] && [ ! -L "$memory_dir" ] || return 0 # another user was first
  mountpoint -q "$memory_dir" || mount -t tmpfs -o mode=1777,size=75% tmpfs "$memory_dir" || return 0
  export TMPDIR=$memory_dir
}

# release_memory_dir unmounts the directory, unless another run uses it.
release_memory_dir() {
  [ "${TMPDIR:-}" = "$memory_dir" ] && flock --exclusive --nonblock 9 || return 0
  umount "$memory_dir" && rmdir "$memory_dir"
}
