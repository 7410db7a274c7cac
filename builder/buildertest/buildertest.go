// Package buildertest holds the tests and helpers that both builders share: decoding of options,
// invalid options, the page of options, the binary of the plugin, and a build that creates
// nothing.
package buildertest

import (
	"context"
	"encoding/json"
	"maps"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/hashicorp/hcl/v2/hcldec"
	"github.com/hashicorp/hcl/v2/hclparse"
	packersdk "github.com/hashicorp/packer-plugin-sdk/packer"
	"github.com/zclconf/go-cty/cty"

	"github.com/packer-chroot/packer-plugin-chroot/bake"
	"github.com/packer-chroot/packer-plugin-chroot/builder"
)

// With are the options of a JSON template with others over them; nil takes one
// away.
func With(t *testing.T, template string, more map[string]any) map[string]any {
	t.Helper()
	var options map[string]any
	if err := json.Unmarshal([]byte(template), &options); err != nil {
		t.Fatal(err)
	}
	return over(options, more)
}

// Device is a block device mapping that every cloud takes, with other options; nil
// takes one away.
func Device(more map[string]any) map[string]any {
	return over(map[string]any{"device_name": "/dev/sdh", "volume_size": 8}, more)
}

func over(options, more map[string]any) map[string]any {
	maps.Copy(options, more)
	maps.DeleteFunc(options, func(_ string, v any) bool { return v == nil })
	return options
}

// Prepared decodes options that must be right, and answers the warnings.
func Prepared(t *testing.T, options builder.Options, give ...any) []string {
	t.Helper()
	warnings, err := options.Prepare(give...)
	if err != nil {
		t.Fatal(err)
	}
	return warnings
}

// Refusal holds options with one mistake, and the texts that the error must contain. It is an
// alias of an unnamed struct, so that a row of a table needs no type name.
type Refusal = struct {
	Name string
	Give map[string]any
	Want []string
}

// Wire returns a value with maps as Packer's RPC delivers them: with keys of type any.
func Wire(value any) any {
	switch value := value.(type) {
	case map[string]any:
		options := make(map[any]any, len(value))
		for name, v := range value {
			options[name] = Wire(v)
		}
		return options
	case []any:
		list := make([]any, len(value))
		for i, v := range value {
			list[i] = Wire(v)
		}
		return list
	}
	return value
}

// Refuses fails the test unless each of the options is refused with one error.
func Refuses(t *testing.T, plugin builder.Plugin, refusals []Refusal) {
	t.Helper()
	for _, r := range refusals {
		t.Run(r.Name, func(t *testing.T) {
			_, err := plugin.Options().Prepare(Wire(r.Give))
			Says(t, err, append([]string{"1 error(s)"}, r.Want...)...)
		})
	}
}

// Says fails the test unless there is an error that has each of the texts.
func Says(t *testing.T, err error, texts ...string) {
	t.Helper()
	if err == nil {
		t.Fatal("no error")
	}
	for _, text := range texts {
		if !strings.Contains(err.Error(), text) {
			t.Errorf("%q is missing in: %v", text, err)
		}
	}
}

// EveryField fails the test if a field of want is zero, except those of these names: so a new
// field cannot be forgotten in the test.
func EveryField(t *testing.T, want any, but ...string) {
	t.Helper()
	v := reflect.ValueOf(want)
	for i := range v.NumField() {
		if name := v.Type().Field(i).Name; v.Field(i).IsZero() && !slices.Contains(but, name) {
			t.Errorf("the test gives nothing for %s", name)
		}
	}
}

// PrepareHCL2 gives options as Packer does with an HCL2 template. They must be
// right, and without a warning.
func PrepareHCL2(t *testing.T, options builder.Options, template string) {
	t.Helper()
	if warnings := Prepared(t, options, HCL2(t, options, template)); len(warnings) > 0 {
		t.Errorf("warnings %q", warnings)
	}
}

// HCL2 returns options as Packer gives them of an HCL2 template.
func HCL2(t *testing.T, options builder.Options, template string) cty.Value {
	t.Helper()
	file, diags := hclparse.NewParser().ParseHCL([]byte(template), "template.pkr.hcl")
	if diags.HasErrors() {
		t.Fatal(diags)
	}
	b := builder.Builder{Options: options}
	value, diags := hcldec.Decode(file.Body, b.ConfigSpec(), nil)
	if diags.HasErrors() {
		t.Fatal(diags)
	}
	return value
}

// idle is a machine that is only closed.
type idle struct{ bake.Machine }

func (idle) Close() error { return nil }

// Run prepares a builder and runs it with a build that makes nothing, and says that
// it made product: the cloud is what that build was given.
func Run(t *testing.T, plugin builder.Plugin, product bake.Product, give map[string]any) (bake.Cloud, packersdk.Artifact, error) {
	t.Helper()
	var given bake.Cloud
	b := builder.Builder{Options: plugin.Options(), Host: builder.Host{
		GOOS:    "linux",
		Machine: func(context.Context, func(string) (string, error)) (bake.Machine, error) { return idle{}, nil },
		Bake: func(_ context.Context, cloud bake.Cloud, _ bake.Machine, _ bake.Plan, _ bake.Reporter) (bake.Result, error) {
			given = cloud
			return bake.Result{Products: []bake.Product{product}}, nil
		},
	}}
	if _, _, err := b.Prepare(give); err != nil {
		t.Fatal(err)
	}
	artifact, err := b.Run(t.Context(), packersdk.TestUi(t), &packersdk.MockHook{})
	return given, artifact, err
}
