//go:build unix

package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// template is one template of the directory, with the declarations in its header:
//
//	# Shows: the expected result, in words
//	# Cost: 0.01                         the cost, in the currency of the cloud
//	# Needs: REAL_KMS_KEY                required variables; without them it is skipped
//	# Host: arm64                        the required architecture of the host
//	# Runs: 2                            the number of builds
//	# Kill: TEXT                         the build is killed at this output, and then reaped
//	# Flood: yes                         the API is called without pause during the build
//	# Says: TEXT                         the output must contain the text
//	# Lacks: TEXT                        the output must not contain the text
//	# Fails: TEXT                        the build must fail, with the text in its output
//	# Image: BootMode = uefi             a required value of the image,
//	# Copy: BootMode = uefi              of each copy in another region,
//	# Snapshot: Encrypted = true         or of the image's first snapshot
type template struct {
	// file is the file's name without extensions. name is the same without the number, and
	// is the name of the template's source.
	file, name   string
	shows, needs string
	cost         float64
	host         string
	runs         int
	kill, fails  string
	flood        bool
	says, lacks  []string
	checks       []check
}

// check is a required value at a path of a resource.
type check struct{ of, path, want string }

func (c check) String() string { return fmt.Sprintf("%s %s = %s", c.of, c.path, c.want) }

var headLine = regexp.MustCompile(`^# ([A-Z][a-z]+): (.+)$`)

// readTemplates reads the headers of a directory's templates. It ignores files without a
// header, such as those with variables.
func readTemplates(dir string) ([]template, error) {
	files, err := filepath.Glob(filepath.Join(dir, "*.pkr.hcl"))
	if err != nil {
		return nil, err
	}
	var all []template
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			return nil, err
		}
		t, ok, err := parseTemplate(filepath.Base(file), string(text))
		if err != nil {
			return nil, fmt.Errorf("%s: %w", file, err)
		}
		if ok {
			all = append(all, t)
		}
	}
	if len(all) == 0 {
		return nil, fmt.Errorf("%s has no template with a header such as \"# Shows: …\"", dir)
	}
	return all, nil
}

// parseTemplate parses a header, and reports whether there is one.
func parseTemplate(file, text string) (t template, ok bool, err error) {
	t.file = strings.TrimSuffix(file, ".pkr.hcl")
	t.name = strings.TrimLeft(t.file, "0123456789-")
	t.runs = 1
	for line := range strings.SplitSeq(text, "\n") {
		if !strings.HasPrefix(line, "#") {
			break
		}
		m := headLine.FindStringSubmatch(line)
		if m == nil {
			if rest, more := strings.CutPrefix(line, "#   "); more && t.shows != "" {
				t.shows += " " + strings.TrimSpace(rest)
			}
			continue
		}
		if err := t.set(m[1], strings.TrimSpace(m[2])); err != nil {
			return t, false, err
		}
	}
	if t.shows == "" {
		return t, false, nil
	}
	if t.fails != "" && t.runs+len(t.checks) > 1 {
		return t, false, errors.New("a build that fails has no image to check")
	}
	return t, true, nil
}

func (t *template) set(key, value string) (err error) {
	switch key {
	case "Shows":
		t.shows = value
	case "Cost":
		t.cost, err = strconv.ParseFloat(value, 64)
	case "Needs":
		t.needs = value
	case "Host":
		t.host = value
	case "Runs":
		t.runs, err = strconv.Atoi(value)
	case "Kill":
		t.kill = value
	case "Flood":
		t.flood = value == "yes"
	case "Says":
		t.says = append(t.says, value)
	case "Lacks":
		t.lacks = append(t.lacks, value)
	case "Fails":
		t.fails = value
	case "Image", "Copy", "Snapshot":
		path, want, ok := strings.Cut(value, " = ")
		if !ok {
			return fmt.Errorf("%s: %q is not PATH = VALUE", key, value)
		}
		t.checks = append(t.checks, check{key, path, want})
	default:
		return fmt.Errorf("a header has no line %q", key)
	}
	if err != nil {
		return fmt.Errorf("%s: %w", key, err)
	}
	return nil
}

// missing returns the required variables that are not set.
func (t template) missing() []string {
	return slices.DeleteFunc(strings.Fields(t.needs), func(name string) bool { return os.Getenv(name) != "" })
}

// list writes the builds as rows of a table.
func list(w io.Writer, templates []template) {
	total := 0.0
	for _, t := range templates {
		needs := "-"
		if t.needs != "" {
			needs = "`" + strings.ReplaceAll(t.needs, " ", "`, `") + "`"
		}
		fmt.Fprintf(w, "| `%s` | %s | %s | %.2f |\n", t.file, t.shows, needs, t.cost)
		total += t.cost * float64(t.runs)
	}
	fmt.Fprintf(w, "| all | | | %.2f |\n", total)
}
