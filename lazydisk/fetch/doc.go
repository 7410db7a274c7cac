// Package fetch provides the blocks of a source: from the cache, or else from the source itself,
// from which a block is fetched once for all processes of the host.
//
// Requests that fail are repeated within limits. The first block that cannot be fetched within
// them fails the fetcher: blocks that are not in the cache then fail at once. Sequential reads are
// recognized, and the blocks ahead of them are fetched into the cache.
//
// A fetcher is for one disk. Its failure is final, so do not share it between disks.
package fetch
