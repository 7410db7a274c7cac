// Package report records the events of a build and reports them: as a summary for the terminal, as
// JSON, as trace events and as an HTML page.
//
//	event.Emit ─→ Recorder ─→ Report ─┬→ Summary
//	                                  ├→ JSON        PATH.json
//	                                  ├→ Trace       PATH.trace.json
//	                                  └→ Page        PATH.html
//
// The package knows no cloud and no machine. docs/report.md describes the JSON for users.
package report
