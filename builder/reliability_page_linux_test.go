package builder_test

import (
	"fmt"
	"os"
	"reflect"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/packer-chroot/packer-plugin-chroot/bake"
	"github.com/packer-chroot/packer-plugin-chroot/builder"
	"github.com/packer-chroot/packer-plugin-chroot/chroot"
	"github.com/packer-chroot/packer-plugin-chroot/retry"
)

// limitRows are the rows of the table of time limits in docs/reliability.md, with the limits that
// each row gives. If a row gives one time, all of its limits have that value.
var limitRows = map[string][]string{
	"a volume, an attachment, a detachment":                                                                 {"Volume", "Attachment"},
	"the device node of an attached volume; with `ebs_direct`, the unmounted device, to be free":            {"Device"},
	"an image, to become available or to disappear":                                                         {"Image"},
	"a snapshot, or a copy of an image":                                                                     {"Snapshot", "Copy"},
	"a call that the cloud throttles":                                                                       {"ThrottledFor"},
	"a call that fails in the cloud (HTTP 5xx), gets no complete response, or cannot connect":               {"FailingFor"},
	"the first connection to an endpoint":                                                                   {"UnreachedFor"},
	"a call whose signature is refused because this machine's clock is wrong":                               {"SkewedFor"},
	"a new resource to appear in the cloud's describing calls":                                              {"Unseen"},
	"a snapshot that was just started with `ebs_direct`, to be known to the EBS direct APIs":                {"UnseenFor"},
	"with `ebs_direct`, all attempts to read a block of the root's disk":                                    {"Read"},
	"with `ebs_direct`, the block server of the root's disk, to respond; then it is killed":                 {"Server"},
	"a changing call, to know a state that a describing call has shown; an image's name, to be free":        {"Settling"},
	"a resource to appear whose creating call failed; of a killed build, whose call may still be under way": {"Lost", "InFlight"},
	"the undo of a failed or canceled build, for the image and for all other resources":                     {"Release"},
	"the keeper of a killed build, to leave its root":                                                       {"DefaultKeeperTimeout"},
	"a stopped keeper, to run again after it was continued":                                                 {"ContinueTimeout"},
	"the first byte of a response of the API; the whole response":                                           {"FirstByteTimeout", "ResponseTimeout"},
}

// limits returns the time limits of the code by name: those of bake.DefaultWaits by their fields, and
// constants.
func limits() map[string]time.Duration {
	all := map[string]time.Duration{
		"ThrottledFor": retry.ThrottledFor, "FailingFor": retry.FailingFor, "UnreachedFor": retry.UnreachedFor, "SkewedFor": retry.SkewedFor,
		"UnseenFor":            retry.UnseenFor,
		"DefaultKeeperTimeout": chroot.DefaultKeeperTimeout, "ContinueTimeout": chroot.ContinueTimeout,
		"FirstByteTimeout": builder.FirstByteTimeout, "ResponseTimeout": builder.ResponseTimeout,
	}
	waits := reflect.ValueOf(bake.DefaultWaits())
	for i := range waits.NumField() {
		switch limit := waits.Field(i).Interface().(type) {
		case bake.Pace:
			all[waits.Type().Field(i).Name] = limit.Limit
		case time.Duration:
			all[waits.Type().Field(i).Name] = limit
		}
	}
	return all
}

// TestDocumentedLimits checks that the table of time limits gives the values of the code: each row
// is of known limits, and each limit has a row.
func TestDocumentedLimits(t *testing.T) {
	text, err := os.ReadFile("../docs/reliability.md")
	if err != nil {
		t.Fatal(err)
	}
	_, table, _ := strings.Cut(string(text), "\n| Wait | Limit |\n|---|---|\n")
	table, _, _ = strings.Cut(table, "\n\n")
	values, found, shown := limits(), map[string]bool{}, map[string]bool{}
	for _, row := range strings.Split(table, "\n") {
		cells := strings.Split(strings.Trim(row, "| "), " | ")
		names, known := limitRows[cells[0]]
		if !known || len(cells) != 2 {
			t.Errorf("limitRows does not have the row %q", row)
			continue
		}
		found[cells[0]] = true
		given := durations(t, cells[1])
		if len(given) != 1 && len(given) != len(names) {
			t.Errorf("%q has %d times for %d limits", cells[0], len(given), len(names))
		}
		for i, name := range names {
			shown[name] = true
			if limit := given[min(i, len(given)-1)]; limit != values[name] {
				t.Errorf("%q is %v in the table, but %s is %v", cells[0], limit, name, values[name])
			}
		}
	}
	for row := range limitRows {
		if !found[row] {
			t.Errorf("the table does not have the row %q", row)
		}
	}
	for name, value := range values {
		if !shown[name] {
			t.Errorf("the table does not have the limit %s, which is %v", name, value)
		}
	}
}

// sentences are the sentences outside of that table that give limits, by page, with the limit in place
// of %s.
var sentences = map[string]map[string]string{
	"docs/reliability.md":                  {"Snapshot": "gave up on snapshot snap-… after %s and"},
	"docs-partials/shared/environment.mdx": {"ThrottledFor": "such as %s for a throttled call"},
	"docs-partials/amazon/PollingConfig-not-required.mdx": {
		"Volume": "%s for a volume,", "Image": "%s for an image,", "Snapshot": "%s for a snapshot", "Copy": "%s for a snapshot or a copy",
	},
}

// TestLimitsInSentences checks the limits that pages give beside the table.
func TestLimitsInSentences(t *testing.T) {
	for page, of := range sentences {
		text, err := os.ReadFile("../" + page)
		if err != nil {
			t.Fatal(err)
		}
		onOneLine := strings.Join(strings.Fields(string(text)), " ")
		for name, sentence := range of {
			limit := limits()[name]
			if !strings.Contains(onOneLine, fmt.Sprintf(sentence, limit)) && !strings.Contains(onOneLine, fmt.Sprintf(sentence, inWords(limit))) {
				t.Errorf("%s does not have %q with the limit %s, which is %v", page, sentence, name, limit)
			}
		}
	}
}

// inWords returns a limit as pages give it, such as "10 minutes".
func inWords(limit time.Duration) string {
	if limit%time.Hour == 0 {
		return fmt.Sprintf("%d hours", limit/time.Hour)
	}
	return fmt.Sprintf("%d minutes", limit/time.Minute)
}

// TestAllRetryLimitsAreDocumented checks that limits has every limit of package retry.
func TestAllRetryLimitsAreDocumented(t *testing.T) {
	source, err := os.ReadFile("../retry/policy.go")
	if err != nil {
		t.Fatal(err)
	}
	constants := regexp.MustCompile(`(?m)^\t(\w+For) += `).FindAllStringSubmatch(string(source), -1)
	if len(constants) == 0 {
		t.Error("package retry has no limits")
	}
	for _, constant := range constants {
		if _, known := limits()[constant[1]]; !known {
			t.Errorf("limits does not have retry.%s", constant[1])
		}
	}
}

// durations returns the times in a text, such as "1 minute; 70 seconds".
func durations(t *testing.T, text string) []time.Duration {
	t.Helper()
	found := regexp.MustCompile(`([0-9]+) (second|minute|hour)s?\b`).FindAllStringSubmatch(text, -1)
	if len(found) == 0 {
		t.Fatalf("%q has no time", text)
	}
	var all []time.Duration
	for _, match := range found {
		d, err := time.ParseDuration(match[1] + match[2][:1])
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, d)
	}
	return all
}
