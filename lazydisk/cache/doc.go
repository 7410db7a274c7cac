// Package cache keeps source blocks in a directory that all builds of a host share. Use it only for
// sources whose blocks never change: nothing removes a block because its source has changed.
//
// Each block is a file that is written completely before it gets its name, and that is never
// changed afterwards. Its header has a checksum for each page, so that a read verifies only
// the pages that it returns. Blocks that fail the verification are removed and count as
// missing. If the cache exceeds its limit, the least recently used blocks are removed.
//
// Any number of processes may use a cache. A process that is killed leaves no lock and no
// incomplete block. The checksums detect accidents, not attacks: the directory must belong to
// root or to this process's user alone.
package cache
