//go:build unix

package main

import (
	"fmt"
	"os"
	"strings"
	"time"
)

// report is the report of a run, in Markdown.
type report struct {
	path                        string
	cloud, run, account, region string
	currency                    string
	begun, ended                time.Time
	results                     []result
	removed, left               []resource
}

// result is the result of a template.
type result struct {
	template
	verdict, reason, note string
	took                  time.Duration
	images                []artifact
	logs                  []string
}

// write writes the report with the results so far.
func (r *report) write() error {
	var b strings.Builder
	fmt.Fprintf(&b, "# Builds on %s\n\n", r.cloud)
	fmt.Fprintf(&b, "- Run: `%s`, account %s, region %s\n- Begun: %s\n", r.run, r.account, r.region, r.begun.UTC().Format(time.RFC3339))
	if r.ended.IsZero() {
		fmt.Fprintf(&b, "- Not cleaned up: resources with the tag `%s=%s` may be left\n", runTag, r.run)
	} else {
		fmt.Fprintf(&b, "- Ended: %s\n", r.ended.UTC().Format(time.RFC3339))
	}
	fmt.Fprintf(&b, "- %s\n\n", r.counts())
	fmt.Fprintf(&b, "| Build | Expected result | Verdict | Duration | Images | Log | Estimate (%s) |\n|---|---|---|---|---|---|---|\n", r.currency)
	for _, res := range r.results {
		b.WriteString(res.row())
	}
	b.WriteString("\n## Cleaning up\n\n")
	r.cleaning(&b)
	return os.WriteFile(r.path, []byte(b.String()), 0o600)
}

func (r *report) cleaning(b *strings.Builder) {
	for _, t := range r.removed {
		fmt.Fprintf(b, "- Removed: %s\n", t)
	}
	for _, t := range r.left {
		fmt.Fprintf(b, "- **Left**: %s\n", t)
	}
	if !r.ended.IsZero() && len(r.left) == 0 {
		fmt.Fprintf(b, "- Nothing with the tag `%s=%s` is left.\n", runTag, r.run)
	}
}

// counts returns the numbers of verdicts and the estimated cost of the builds.
func (r *report) counts() string {
	n, cost := map[string]int{}, 0.0
	for _, res := range r.results {
		n[res.verdict]++
		if res.verdict != "skipped" {
			cost += res.cost * float64(res.runs)
		}
	}
	return fmt.Sprintf("%d passed, %d failed, %d skipped; estimated cost %.2f %s", n["passed"], n["failed"], n["skipped"], cost, r.currency)
}

func (res result) row() string {
	var images []string
	for _, a := range res.images {
		images = append(images, a.region+": "+a.id)
	}
	verdict := []string{res.verdict}
	for _, more := range []string{res.reason, res.note} {
		if more != "" {
			verdict = append(verdict, cell(more))
		}
	}
	return fmt.Sprintf("| `%s` | %s | %s | %s | %s | %s | %.2f |\n", res.file, cell(res.shows), strings.Join(verdict, ": "),
		res.took.Round(time.Second), strings.Join(images, " "), strings.Join(res.logs, " "), res.cost)
}

// cell returns a text for a cell of a table.
func cell(s string) string {
	return strings.ReplaceAll(strings.Join(strings.Fields(s), " "), "|", `\|`)
}

// failed returns an error if a build failed or resources remain.
func (r *report) failed() error {
	failed := 0
	for _, res := range r.results {
		if res.verdict == "failed" {
			failed++
		}
	}
	if failed+len(r.left) == 0 {
		return nil
	}
	return fmt.Errorf("%d builds failed, and %d resources are left: see %s", failed, len(r.left), r.path)
}
