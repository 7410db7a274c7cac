package amazon

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/packer-chroot/packer-plugin-chroot/bake"
)

const (
	billedXML = "<platformDetails>Red Hat Enterprise Linux</platformDetails><usageOperation>RunInstances:0010</usageOperation>"
	plainXML  = "<platformDetails>Linux/UNIX</platformDetails><usageOperation>RunInstances</usageOperation>"
	codesXML  = "<productCodes><item><productCode>code-1</productCode><type>marketplace</type></item>" +
		"<item><productCode>code-2</productCode><type>marketplace</type></item></productCodes>"
)

// told collects the messages of a cloud to the user.
func told(lines *[]string) func(string, ...any) {
	return func(format string, args ...any) { *lines = append(*lines, fmt.Sprintf(format, args...)) }
}

// warned checks that one line holds all of the words, or that there is none if there
// are no words.
func warned(t *testing.T, lines []string, words ...string) {
	t.Helper()
	all := strings.Join(lines, "\n")
	if len(words) == 0 && all != "" || len(words) > 0 && !strings.HasPrefix(all, "warning: ") {
		t.Errorf("told %q, want %q", lines, words)
	}
	for _, word := range words {
		if !strings.Contains(all, word) {
			t.Errorf("told %q, not %q", lines, word)
		}
	}
}

// TestBilledSourceIsReported checks that the message is printed before anything is created.
func TestBilledSourceIsReported(t *testing.T) {
	for xml, words := range map[string][]string{
		"":        nil,
		plainXML:  nil,
		billedXML: {"source image ami-1 (base)", "Red Hat Enterprise Linux (RunInstances:0010)", "from an instance"},
		"<platformDetails>SQL Server</platformDetails>":      {"billed as SQL Server:"},
		"<usageOperation>RunInstances:000g</usageOperation>": {"billed as RunInstances:000g:"},
		"<usageOperation>RunInstances</usageOperation>":      nil,
		"<platformDetails>Linux/UNIX</platformDetails>":      nil,
		plainXML + codesXML: {"source image ami-1 (base)", "product codes code-1 and code-2", "stopped instances only"},
	} {
		t.Run(xml, func(t *testing.T) {
			var lines []string
			s := &fake{actions: map[string]action{"DescribeImages": images(imageXML + xml)}}
			if _, err := logged(faked(t, s, Config{SourceConfig: SourceConfig{SourceAMI: "ami-1"}}), told(&lines)).Source(context.Background()); err != nil {
				t.Fatal(err)
			}
			warned(t, lines, words...)
		})
	}
}

// TestBillingOfTheImage is compared with the source's once, as soon as EC2 shows it
// with certainty.
func TestBillingOfTheImage(t *testing.T) {
	tests := map[string]struct {
		source, made string
		codes        []string
		words        []string
	}{
		"plain":                 {source: plainXML, made: plainXML},
		"not told":              {},
		"as the source":         {source: billedXML + codesXML, made: billedXML + codesXML},
		"lost":                  {source: billedXML, made: plainXML, words: []string{"image ami-new", "Linux/UNIX", "Red Hat Enterprise Linux (RunInstances:0010)", "discard", "Reserved Instances"}},
		"without any":           {source: billedXML, made: "", words: []string{"image ami-new", "discard"}},
		"more than before":      {source: plainXML, made: billedXML, words: []string{"image ami-new", "Red Hat"}},
		"without product codes": {source: plainXML + codesXML, made: plainXML, words: []string{"image ami-new", "code-1 and code-2", "ami_product_codes"}},
		"with the user's codes": {source: plainXML + codesXML, made: plainXML, codes: []string{"code-2", "code-1"}},
		"with one of the codes": {source: plainXML + codesXML, made: plainXML, codes: []string{"code-2"}, words: []string{"code-1;"}},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			made := "<imageId>ami-new</imageId><imageState>%s</imageState>"
			s := &fake{actions: map[string]action{
				"RegisterImage":          answer("RegisterImage", "<imageId>ami-new</imageId>"),
				"DescribeImageAttribute": answer("DescribeImageAttribute", ""), // arm64 boots by UEFI
				"DescribeImages": inTurn(images(imageXML+test.source), images(fmt.Sprintf(made, "pending")),
					images(fmt.Sprintf(made, "available")+test.made)),
			}}
			var lines []string
			cloud := logged(faked(t, s, Config{SourceConfig: SourceConfig{SourceAMI: "ami-1"}, PublishConfig: PublishConfig{AMIProductCodes: test.codes}}), told(&lines))
			source, err := cloud.Source(context.Background())
			if err != nil {
				t.Fatal(err)
			}
			lines = nil
			if _, err := cloud.Register(context.Background(), bake.ImageSpec{Name: "new", Snapshot: "snap-new", Source: &source}); err != nil {
				t.Fatal(err)
			}
			for range 4 {
				if _, err := cloud.Image(context.Background(), "ami-new"); err != nil {
					t.Fatal(err)
				}
			}
			if len(lines) > 1 {
				t.Errorf("told %q", lines)
			}
			warned(t, lines, test.words...)
		})
	}
}
