// Package cow is the content of a lazy disk, copied on write: the blocks of its source, with the
// pages that were written over them.
//
// Reads fetch the blocks that they need. Writes do not, unless they begin or end within a page
// that was not written yet. The rest of a block that was written in part is only fetched when
// the changed blocks are read for the upload.
//
// The content ends with the process. It is not for data that must survive it.
package cow
