// Package supply provides the blocks of a source: from the cache, or else from the source itself,
// from which a block is fetched once for all processes of the host.
//
// Requests that fail are repeated within limits. The first block that cannot be provided for good
// fails the supply: blocks that would have to be fetched then fail at once. Sequential reads
// are recognized, and the blocks ahead of them fetched into the cache.
package supply
