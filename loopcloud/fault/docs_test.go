package fault_test

import (
	"fmt"
	"os"
	"reflect"
	"regexp"
	"strings"
	"testing"

	"github.com/packer-chroot/packer-plugin-chroot/loopcloud/fault"
)

// TestExamplesAreRules checks that the page about faults has examples of every field, and all
// are valid.
func TestExamplesAreRules(t *testing.T) {
	page, err := os.ReadFile("../../docs/loopcloud.md")
	if err != nil {
		t.Fatal(err)
	}
	_, faults, _ := strings.Cut(string(page), "\n## Faults\n")
	examples := regexp.MustCompile("`(\\{\".*?\\})`").FindAllStringSubmatch(faults, -1)
	if len(examples) < 15 {
		t.Fatalf("there are %d examples", len(examples))
	}
	var all strings.Builder
	for _, example := range examples {
		if _, err := fault.ParseRules([]byte(example[1])); err != nil {
			t.Errorf("%s: %v", example[1], err)
		}
		all.WriteString(example[1])
	}
	shown := all.String()
	for _, field := range fields(reflect.TypeFor[fault.Rule]()) {
		if !strings.Contains(shown, `"`+field+`":`) {
			t.Errorf("no example has %s", field)
		}
	}
}

// TestBodiesAreDocumented checks that the page about faults names every change of a body.
func TestBodiesAreDocumented(t *testing.T) {
	page, err := os.ReadFile("../../docs/loopcloud.md")
	if err != nil {
		t.Fatal(err)
	}
	_, refused := fault.ParseRules([]byte(`{"body":"none"}`))
	_, words, listed := strings.Cut(fmt.Sprint(refused), "not one of ")
	if !listed {
		t.Fatalf("the refusal lists no words: %v", refused)
	}
	for word := range strings.SplitSeq(words, ", ") {
		if !strings.Contains(string(page), "`"+word+"`") && !strings.Contains(string(page), `"body":"`+word+`"`) {
			t.Errorf("%s is not documented", word)
		}
	}
}

// fields returns the names in JSON of the fields of a struct and of its structs.
func fields(of reflect.Type) []string {
	var names []string
	if of.Kind() == reflect.Slice {
		of = of.Elem()
	}
	if of.Kind() != reflect.Struct {
		return nil
	}
	for i := range of.NumField() {
		if name, _, _ := strings.Cut(of.Field(i).Tag.Get("json"), ","); name != "" {
			names = append(names, name)
		}
		names = append(names, fields(of.Field(i).Type)...)
	}
	return names
}
