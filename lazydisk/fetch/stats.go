package fetch

// Stats are figures of a fetcher since its start.
type Stats struct {
	// Fetched is the number of blocks that the source has sent, and Prefetched how many of
	// them were requested ahead of reads.
	Fetched, Prefetched int64
	// FromCache is the number of blocks that came from the cache and were not fetched by this
	// fetcher. A block that is opened several times counts once.
	FromCache int64
	// Retries is the number of repeated requests.
	Retries int64
	// Uncached is the number of fetched blocks that the cache could not keep.
	Uncached int64
}
