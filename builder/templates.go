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

// The fields of the templates of the common options.
const (
	fieldCommand   = "Command"
	fieldDevice    = "Device"
	fieldMountPath = "MountPath"
)

// tagsSuffix ends the name of the field of the source image's tags.
const tagsSuffix = "Tags"

// parseTemplate reads a template. A tag that the source image does not have is empty.
func parseTemplate(option, text string, ictx *interpolate.Context) (*template.Template, error) {
	return template.New(option).Option("missingkey=zero").Funcs(interpolate.Funcs(ictx)).Parse(text)
}

// render renders a template once: its data, such as the tags of somebody else's image, are text
// and never a template.
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

// checkTemplate fails when text is no template, speaks of a field that it will not be
// given, or calls a function that works elsewhere only, so that a slip of the pen is
// told before a volume is made. It does not render: a function may well fail on made-up
// data and not on the real.
func checkTemplate(option, text string, ictx *interpolate.Context, fields ...string) error {
	parsed, err := parseTemplate(option, text, ictx)
	if err != nil {
		return fmt.Errorf("%s is not a template: %w", option, err)
	}
	if parsed.Tree == nil {
		return nil
	}
	for _, used := range fieldsUsed(parsed.Root, true) {
		if err := checkField(option, used, fields); err != nil {
			return err
		}
	}
	for _, name := range functionsUsed(parsed.Root) {
		if remedy, elsewhere := elsewhereOnly[name]; elsewhere {
			return fmt.Errorf("%s calls the function %s, which %s", option, name, remedy)
		}
	}
	return nil
}

// elsewhereOnly are functions of Packer that fail in the options of a builder, with the
// alternative.
var elsewhereOnly = map[string]string{
	"env":   "is for the defaults of variables: define a variable with it, and use that here",
	"build": "is for provisioners and post-processors: what a builder knows is in fields, such as {{.BuildRegion}} in tags",
}

// checkField fails when a field is none of those that a template is given, or has no
// fields of its own. A map of tags has any.
func checkField(option string, used []string, fields []string) error {
	deepest := 1
	if strings.HasSuffix(used[0], tagsSuffix) {
		deepest = 2
	}
	switch {
	case len(fields) == 0:
		return fmt.Errorf("%s uses .%s, but this option has no fields: functions, such as {{timestamp}}, are all that works in it",
			option, strings.Join(used, "."))
	case !slices.Contains(fields, used[0]):
		return fmt.Errorf("%s speaks of .%s, but knows only .%s", option, used[0], strings.Join(fields, ", ."))
	case len(used) > deepest:
		return fmt.Errorf("%s speaks of .%s, but .%s has no fields", option, strings.Join(used, "."), strings.Join(used[:deepest], "."))
	}
	return nil
}

// usesField reports whether a template uses a field.
func usesField(option, text string, ictx *interpolate.Context, field string) bool {
	parsed, err := parseTemplate(option, text, ictx)
	if err != nil || parsed.Tree == nil {
		return false
	}
	return slices.ContainsFunc(fieldsUsed(parsed.Root, true), func(used []string) bool { return used[0] == field })
}

// literal reports whether a text is the same when it is rendered.
func literal(text string) bool { return !strings.Contains(text, "{{") }

// sample is a plausible value of a field, to try a template with.
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

// fieldsUsed lists the fields of the template's data that a node speaks of, with the
// fields of these. Below a range or a with the dot is something else: then only $ is
// the data.
func fieldsUsed(node parse.Node, dotIsData bool) [][]string {
	var used [][]string
	walk(node, dotIsData, func(n parse.Node, dotIsData bool) {
		switch n := n.(type) {
		case *parse.FieldNode:
			if dotIsData {
				used = append(used, n.Ident)
			}
		case *parse.VariableNode:
			if n.Ident[0] == "$" && len(n.Ident) > 1 {
				used = append(used, n.Ident[1:])
			}
		}
	})
	return used
}

// functionsUsed lists the functions that a node calls.
func functionsUsed(node parse.Node) []string {
	var used []string
	walk(node, true, func(n parse.Node, _ bool) {
		if n, ok := n.(*parse.IdentifierNode); ok {
			used = append(used, n.Ident)
		}
	})
	return used
}

// walk visits the nodes below one. dotIsData says whether the dot is the template's
// data there.
func walk(node parse.Node, dotIsData bool, visit func(n parse.Node, dotIsData bool)) {
	below := func(dotIsData bool, nodes ...parse.Node) {
		for _, n := range nodes {
			walk(n, dotIsData, visit)
		}
	}
	branch := func(b *parse.BranchNode, dotInList bool) {
		below(dotIsData, b.Pipe)
		below(dotInList, b.List)
		below(dotIsData, b.ElseList)
	}
	visit(node, dotIsData)
	switch n := node.(type) {
	case *parse.ListNode:
		if n != nil { // an else that is not there
			below(dotIsData, n.Nodes...)
		}
	case *parse.ActionNode:
		below(dotIsData, n.Pipe)
	case *parse.PipeNode:
		for _, command := range n.Cmds {
			below(dotIsData, command)
		}
	case *parse.CommandNode:
		below(dotIsData, n.Args...)
	case *parse.ChainNode:
		below(dotIsData, n.Node)
	case *parse.IfNode:
		branch(&n.BranchNode, dotIsData)
	case *parse.WithNode:
		branch(&n.BranchNode, false)
	case *parse.RangeNode:
		branch(&n.BranchNode, false)
	}
}

// tagKeysUsed lists the keys of a field of tags that a node speaks of: .Field.key, and
// index .Field "key".
func tagKeysUsed(node parse.Node, field string) []string {
	var keys []string
	for _, used := range fieldsUsed(node, true) {
		if used[0] == field && len(used) > 1 {
			keys = append(keys, used[1])
		}
	}
	walk(node, true, func(n parse.Node, dotIsData bool) {
		command, ok := n.(*parse.CommandNode)
		if !ok || len(command.Args) != 3 || command.Args[0].String() != "index" {
			return
		}
		of := command.Args[1].String()
		key, ok := command.Args[2].(*parse.StringNode)
		if ok && (of == "$."+field || dotIsData && of == "."+field) {
			keys = append(keys, key.Text)
		}
	})
	return keys
}
