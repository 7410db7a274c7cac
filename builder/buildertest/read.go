package buildertest

import (
	"go/ast"
	"go/parser"
	"go/token"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
)

// EveryOptionRead fails the test if an option of a configuration is read by no function of the
// directories' packages, except by those that check options or warn of them.
func EveryOptionRead(t *testing.T, config any, directories ...string) {
	t.Helper()
	read := map[string]bool{}
	for _, dir := range directories {
		fieldsRead(t, dir, read)
	}
	options := 0
	eachOption(reflect.TypeOf(config), func(option, field string) {
		if options++; !read[field] {
			t.Errorf("only checks and warnings read the option %s (%s)", option, field)
		}
	})
	if options == 0 {
		t.Error("the configuration has no options")
	}
}

// fieldsRead adds the names of all fields and methods that a package's functions select.
func fieldsRead(t *testing.T, dir string, read map[string]bool) {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, "*.go"))
	if err != nil || len(files) == 0 {
		t.Fatalf("no files in %s: %v", dir, err)
	}
	for _, name := range files {
		if strings.HasSuffix(name, "_test.go") || strings.HasSuffix(name, ".hcl2spec.go") {
			continue
		}
		file, err := parser.ParseFile(token.NewFileSet(), name, nil, parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		ast.Inspect(file, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.FuncDecl:
				return !strings.HasPrefix(n.Name.Name, "check") && !strings.HasSuffix(n.Name.Name, "Warnings")
			case *ast.SelectorExpr:
				read[n.Sel.Name] = true
			}
			return true
		})
	}
}

// eachOption calls with for each option of a configuration and of its blocks, except those
// that users are not told of.
func eachOption(of reflect.Type, with func(option, field string)) {
	for of.Kind() == reflect.Slice {
		of = of.Elem()
	}
	if of.Kind() != reflect.Struct || !strings.HasPrefix(of.PkgPath(), module) {
		return
	}
	for i := range of.NumField() {
		field := of.Field(i)
		option, isOption := field.Tag.Lookup("mapstructure")
		if isOption && option != ",squash" && field.Tag.Get("undocumented") == "" {
			with(option, field.Name)
		}
		eachOption(field.Type, with)
	}
}

// module is the path of this module: blocks of other modules are not looked into.
const module = "github.com/packer-chroot/packer-plugin-chroot/"
