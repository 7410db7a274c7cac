package builder

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"text/template"
	"text/template/parse"

	"github.com/hashicorp/packer-plugin-sdk/template/interpolate"
)

// What the templates of the common options may speak of.
const (
	fieldCommand   = "Command"
	fieldDevice    = "Device"
	fieldMountPath = "MountPath"
)

// parseTemplate reads a template. A tag that the source image does not have is empty.
func parseTemplate(option, text string, ictx *interpolate.Context) (*template.Template, error) {
	return template.New(option).Option("missingkey=zero").Funcs(interpolate.Funcs(ictx)).Parse(text)
}

// render renders a template once: what comes in by its data, such as the tags of
// somebody else's image, is text and never a template.
func render(text string, ictx interpolate.Context, data map[string]any) (string, error) {
	parsed, err := parseTemplate("template", text, &ictx)
	if err != nil {
		return "", err
	}
	var out strings.Builder
	if err := parsed.Execute(&out, data); err != nil {
		return "", err
	}
	return out.String(), nil
}

func renderAll(option string, texts []string, ictx interpolate.Context, data map[string]any) ([]string, error) {
	rendered := make([]string, 0, len(texts))
	for i, text := range texts {
		s, err := render(text, ictx, data)
		if err != nil {
			return nil, fmt.Errorf("cannot render %s: %w", entry(option, i), err)
		}
		rendered = append(rendered, s)
	}
	return rendered, nil
}

// renderMap renders keys and values.
func renderMap(option string, texts map[string]string, ictx interpolate.Context, data map[string]any) (map[string]string, error) {
	rendered := make(map[string]string, len(texts))
	for _, key := range slices.Sorted(maps.Keys(texts)) {
		name, err := render(key, ictx, data)
		if err != nil {
			return nil, fmt.Errorf("cannot render the key %q of %s: %w", key, option, err)
		}
		if _, twice := rendered[name]; twice {
			return nil, fmt.Errorf("two of %s are rendered to the same key %q", option, name)
		}
		if rendered[name], err = render(texts[key], ictx, data); err != nil {
			return nil, fmt.Errorf("cannot render the value of %s %q: %w", option, key, err)
		}
	}
	return rendered, nil
}

// checkTemplate fails when text is no template or speaks of a field that it will
// not be given, so that a slip of the pen is told before a volume is made. It
// does not render: a function may well fail on made-up data and not on the real.
func checkTemplate(option, text string, ictx *interpolate.Context, fields ...string) error {
	parsed, err := parseTemplate(option, text, ictx)
	if err != nil {
		return fmt.Errorf("%s is not a template: %w", option, err)
	}
	if parsed.Tree == nil {
		return nil
	}
	for _, used := range fieldsUsed(parsed.Root, true) {
		if !slices.Contains(fields, used) {
			return fmt.Errorf("%s speaks of .%s, but knows only .%s", option, used, strings.Join(fields, ", ."))
		}
	}
	return nil
}

// sample is what a field may well hold when its template is rendered.
type sample struct{ field, value string }

// tryTemplate checks a template and renders it with samples, for those templates
// that are otherwise rendered when a volume is there already.
func tryTemplate(option, text string, ictx interpolate.Context, samples ...sample) error {
	var fields []string
	data := map[string]any{}
	for _, s := range samples {
		fields = append(fields, s.field)
		data[s.field] = s.value
	}
	if err := checkTemplate(option, text, &ictx, fields...); err != nil {
		return err
	}
	if _, err := render(text, ictx, data); err != nil {
		return fmt.Errorf("cannot render %s: %w", option, err)
	}
	return nil
}

// fieldsUsed lists the fields of the template's data that a node speaks of.
// Below a range or a with the dot is something else: then only $ is the data.
func fieldsUsed(node parse.Node, dotIsData bool) []string {
	var used []string
	below := func(dotIsData bool, nodes ...parse.Node) {
		for _, n := range nodes {
			used = append(used, fieldsUsed(n, dotIsData)...)
		}
	}
	branch := func(b *parse.BranchNode, dotInList bool) {
		below(dotIsData, b.Pipe)
		below(dotInList, b.List)
		below(dotIsData, b.ElseList)
	}
	switch n := node.(type) {
	case *parse.ListNode:
		if n != nil { // an else that is not there
			below(dotIsData, n.Nodes...)
		}
	case *parse.ActionNode:
		below(dotIsData, n.Pipe)
	case *parse.PipeNode:
		for _, command := range n.Cmds {
			below(dotIsData, command.Args...)
		}
	case *parse.ChainNode:
		below(dotIsData, n.Node)
	case *parse.IfNode:
		branch(&n.BranchNode, dotIsData)
	case *parse.WithNode:
		branch(&n.BranchNode, false)
	case *parse.RangeNode:
		branch(&n.BranchNode, false)
	case *parse.FieldNode:
		if dotIsData {
			used = append(used, n.Ident[0])
		}
	case *parse.VariableNode:
		if n.Ident[0] == "$" && len(n.Ident) > 1 {
			used = append(used, n.Ident[1])
		}
	}
	return used
}
