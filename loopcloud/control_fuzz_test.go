//go:build linux

package loopcloud

import (
	"encoding/json"
	"net/url"
	"reflect"
	"testing"
	"time"
)

// FuzzControlQueries: every query of a control request is parsed or refused, and the parameters
// of a parsed import parse to the same import.
func FuzzControlQueries(f *testing.F) {
	for _, seed := range []string{
		"", "name=x&size=8&tag=a=b&boot-mode=uefi", "size=-1", "size=99999999999", "tag=a", "other=x",
		"advance=10m&skew=-1h", "advance=9223372036854775807h", "skew=", "%zz=1",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		q, err := url.ParseQuery(text)
		if err != nil {
			return
		}
		if imp, err := ImportOf(q); err == nil {
			if again, err := ImportOf(imp.Query()); err != nil || !reflect.DeepEqual(again, imp) {
				t.Errorf("%q is %+v, and then %+v (%v)", text, imp, again, err)
			}
		}
		advance, skew, err := clockChange(q, time.Hour)
		if err == nil && len(q) == 0 {
			t.Error("nothing changed the clocks")
		}
		if err != nil && (advance != 0 || skew != 0) {
			t.Errorf("%q: refused, it is %s and %s", text, advance, skew)
		}
	})
}

// FuzzSettings: settings are refused, or parsed without a panic and with as many settings as the
// text lists.
func FuzzSettings(f *testing.F) {
	for _, seed := range []string{
		`{"region":"us-east-1","encrypt_by_default":true}`, `[{"public_images":5},{"allowed_images":"enabled","allowed_providers":["amazon"]}]`,
		`{}`, `[]`, `null`, `{"encrypt":1}`, `{"public_images":"x"}`, `[1]`, ``,
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		settings, err := ParseSettings([]byte(text))
		if err != nil && settings != nil {
			t.Errorf("%q is refused, and is %+v", text, settings)
		}
		var list []any
		if err == nil && json.Unmarshal([]byte(text), &list) == nil && len(list) != len(settings) {
			t.Errorf("%q is %+v", text, settings)
		}
	})
}
