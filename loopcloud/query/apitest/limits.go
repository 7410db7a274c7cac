package apitest

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"unicode/utf8"
)

// models is the directory of API models in Debian's awscli.
const models = "/usr/lib/python3/dist-packages/awscli/botocore/data"

// limits holds the lengths, ranges and patterns of a service's model. The model may be older than
// the SDK: parameters that it does not contain have no limits.
type limits struct {
	Operations map[string]struct{ Input struct{ Shape string } }
	Shapes     map[string]shape
}

type shape struct {
	Type     string
	Members  map[string]member
	Member   member
	Min, Max *float64
	Pattern  string
}

type member struct {
	Shape                   string
	LocationName, QueryName string
}

// loadLimits loads a service's model. If it is missing, which is an error in CI, there are no
// limits.
func loadLimits(service, version string) (limits, error) {
	var l limits
	text, err := os.ReadFile(filepath.Join(models, service, version, "service-2.json"))
	if errors.Is(err, fs.ErrNotExist) && os.Getenv("CI") != "true" {
		return l, nil
	}
	if err != nil {
		return l, fmt.Errorf("cannot read the AWS CLI's model of %s: %w", service, err)
	}
	return l, json.Unmarshal(text, &l)
}

// check returns an error for each parameter outside its limits.
func (l limits) check(call string, params url.Values) error {
	var wrong []error
	for name, values := range params {
		at := l.Shapes[l.Operations[call].Input.Shape]
		for part := range strings.SplitSeq(name, ".") {
			at = l.below(at, part)
		}
		if err := at.check(values[0]); err != nil {
			wrong = append(wrong, fmt.Errorf("%s: %w", name, err))
		}
	}
	return errors.Join(wrong...)
}

// below returns the shape of a part of a parameter's name.
func (l limits) below(at shape, part string) shape {
	if at.Type == "list" {
		if part == "member" {
			return at // the number follows
		}
		return l.Shapes[at.Member.Shape]
	}
	for name, m := range at.Members {
		if m.wireName(name) == part || name == part || m.LocationName == part {
			return l.Shapes[m.Shape]
		}
	}
	return shape{}
}

func (m member) wireName(name string) string {
	switch {
	case m.QueryName != "":
		return m.QueryName
	case m.LocationName != "":
		return strings.ToUpper(m.LocationName[:1]) + m.LocationName[1:]
	}
	return name
}

// unicode matches a character in a pattern in Java's notation.
var unicode = regexp.MustCompile(`\\u([0-9A-Fa-f]{4})`)

func (s shape) check(text string) error {
	size := float64(utf8.RuneCountInString(text))
	switch s.Type {
	case "integer", "long", "float", "double":
		n, err := strconv.ParseFloat(text, 64)
		if err != nil {
			return err
		}
		size = n
	case "string":
	default:
		return nil
	}
	if s.Min != nil && size < *s.Min || s.Max != nil && size > *s.Max {
		return fmt.Errorf("%q is outside of the limits %s", text, s.span())
	}
	if s.Pattern == "" {
		return nil
	}
	pattern, err := regexp.Compile(`^(?:` + unicode.ReplaceAllString(s.Pattern, `\x{$1}`) + `)$`)
	if err != nil {
		return err
	}
	if !pattern.MatchString(text) {
		return fmt.Errorf("%q does not match %s", text, s.Pattern)
	}
	return nil
}

// span returns the limits as text.
func (s shape) span() string {
	low, high := "", ""
	if s.Min != nil {
		low = strconv.FormatFloat(*s.Min, 'f', -1, 64)
	}
	if s.Max != nil {
		high = strconv.FormatFloat(*s.Max, 'f', -1, 64)
	}
	return low + "…" + high
}
