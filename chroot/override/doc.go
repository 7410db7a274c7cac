// Package override puts files into a root for a limited time, and restores the root's own
// files exactly afterwards.
//
// An existing file or link is set aside under another name and renamed back, so that it
// keeps every attribute; a link is never written through. A file that was changed in the
// meantime is kept instead. Use package transfer for files that stay.
package override
