package apitest

import (
	"context"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
)

// docs are the comments of a service's package in the SDK.
type docs struct {
	dir string
	mu  sync.Mutex
	// fields are the comments of fields by type and field name, and parsed the files that they
	// come from.
	fields map[string]string
	parsed map[string]bool
}

func loadDocs(service string) (*docs, error) {
	module := "github.com/aws/aws-sdk-go-v2/service/" + service
	dir, err := exec.CommandContext(context.Background(), "go", "list", "-m", "-f", "{{.Dir}}", module).Output()
	if err != nil {
		return nil, fmt.Errorf("cannot find the module %s: %w", module, err)
	}
	d := &docs{dir: strings.TrimSpace(string(dir)), fields: map[string]string{}, parsed: map[string]bool{}}
	return d, d.parse(filepath.Join("types", "types.go"))
}

// of returns the comment of a type's field, with single spaces.
func (d *docs) of(typ, field string) string {
	d.mu.Lock()
	defer d.mu.Unlock()
	if operation, ok := strings.CutSuffix(typ, "Input"); ok {
		_ = d.parse("api_op_" + operation + ".go") // a type of types.go may have such a name too
	}
	return d.fields[typ+"."+field]
}

// parse parses the comments of a file, once.
func (d *docs) parse(file string) error {
	if d.parsed[file] {
		return nil
	}
	d.parsed[file] = true
	path := filepath.Join(d.dir, file)
	if _, err := os.Stat(path); err != nil {
		return err
	}
	f, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.ParseComments|parser.SkipObjectResolution)
	if err != nil {
		return err
	}
	ast.Inspect(f, func(n ast.Node) bool {
		spec, ok := n.(*ast.TypeSpec)
		if !ok {
			return true
		}
		if s, ok := spec.Type.(*ast.StructType); ok {
			d.note(spec.Name.Name, s)
		}
		return false
	})
	return nil
}

func (d *docs) note(typ string, s *ast.StructType) {
	for _, f := range s.Fields.List {
		for _, name := range f.Names {
			d.fields[typ+"."+name.Name] = f.Doc.Text()
		}
	}
}

// documented matches a set of values in a comment: in parentheses at its beginning, or after
// "valid values".
var documented = regexp.MustCompile(`(?i)(?:^[^.(]*\(|valid values:) ([a-z0-9.:_-]+(?: \| [a-z0-9.:_-]+)+)(?: \)|$|\.? )`)

// set returns the documented values of a field, nil if there are none.
func (d *docs) set(typ, field string) []string {
	m := documented.FindStringSubmatch(strings.Join(strings.Fields(d.of(typ, field)), " "))
	if m == nil {
		return nil
	}
	values := strings.Split(m[1], " | ")
	for i := range values {
		values[i] = strings.TrimSuffix(values[i], ".")
	}
	return values
}

// filter matches the name of a filter in the comment of a call's filters.
var filter = regexp.MustCompile(`(?m)^ *- ([a-z0-9.-]+)( ?:)?(?:<key>)? - `)

// filters returns a function that reports whether a call has a filter, nil if its documentation
// lists none.
func (d *docs) filters(input string) func(name string) bool {
	var names, prefixes []string
	for _, m := range filter.FindAllStringSubmatch(d.of(input, "Filters"), -1) {
		if m[2] != "" {
			prefixes = append(prefixes, m[1]+":")
			continue
		}
		names = append(names, m[1])
	}
	if names == nil {
		return nil
	}
	return func(name string) bool {
		return slices.Contains(names, name) || slices.ContainsFunc(prefixes, func(p string) bool { return strings.HasPrefix(name, p) })
	}
}
