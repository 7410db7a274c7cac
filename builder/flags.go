package builder

import (
	"flag"
	"fmt"
	"io"
	"reflect"
	"strings"
	"time"
)

// commandFlag is a flag that sets a field of a command's options.
type commandFlag struct {
	name string
	// value names the flag's value in the usage; empty for a bool.
	value, usage string
	// field is a pointer to the field.
	field any
}

// flagsOf returns the flags that set the fields of a struct with the tags flag, "name VALUE", and
// usage. The fields of its nested structs are included.
func flagsOf(options reflect.Value) (all []commandFlag) {
	for i := range options.NumField() {
		field := options.Type().Field(i)
		if tag, ok := field.Tag.Lookup("flag"); ok {
			name, value, _ := strings.Cut(tag, " ")
			all = append(all, commandFlag{name, value, field.Tag.Get("usage"), options.Field(i).Addr().Interface()})
		} else if field.Type.Kind() == reflect.Struct {
			all = append(all, flagsOf(options.Field(i))...)
		}
	}
	return all
}

// flagSet returns the flags of a command, which set the fields of options, a pointer to a struct.
// The values of the fields are the defaults.
func flagSet(command string, options any) *flag.FlagSet {
	set := flag.NewFlagSet(command, flag.ContinueOnError)
	set.SetOutput(io.Discard)
	for _, f := range flagsOf(reflect.ValueOf(options).Elem()) {
		switch field := f.field.(type) {
		case *bool:
			set.BoolVar(field, f.name, *field, f.usage)
		case *string:
			set.StringVar(field, f.name, *field, f.usage)
		case *time.Duration:
			set.DurationVar(field, f.name, *field, f.usage)
		default:
			panic(fmt.Sprintf("builder: --%s sets a %T", f.name, field))
		}
	}
	return set
}

// flagUsage returns a line for each flag of options, a pointer to a struct.
func flagUsage(options any) string {
	var lines strings.Builder
	for _, f := range flagsOf(reflect.ValueOf(options).Elem()) {
		fmt.Fprintf(&lines, "  --%-21s %s\n", strings.TrimSpace(f.name+" "+f.value), f.usage)
	}
	return lines.String()
}
