package fetch

// Stats are figures of a fetcher since its start.
type Stats struct {
	// Fetched is the number of blocks that the source has sent, and Prefetched how many of
	// them were requested ahead of reads.
	Fetched, Prefetched int64
	// Hits is the number of blocks that were opened in the cache.
	Hits int64
	// Retries is the number of repeated requests.
	Retries int64
	// Uncached is the number of fetched blocks that the cache could not keep.
	Uncached int64
}
