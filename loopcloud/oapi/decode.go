package oapi

import (
	"bytes"
	"encoding/json"
	"maps"
	"reflect"
	"slices"
	"strings"
)

// decode decodes the parameters of a call into a struct. It is as strict as the API: it refuses
// unknown names, names in another case, values of another type, and a request without a field
// that has the tag need:"yes". A field or a filter that is null is absent; null elsewhere is refused.
// An empty body is an empty object.
func decode(body []byte, params any) error {
	if len(bytes.TrimSpace(body)) == 0 {
		body = []byte("{}")
	}
	if !json.Valid(body) {
		return badJSON.with("the request is not JSON")
	}
	return decodeValue(body, "", reflect.ValueOf(params).Elem())
}

// decodeValue decodes valid JSON into v. The name of the parameter is for errors.
func decodeValue(raw json.RawMessage, name string, v reflect.Value) error {
	if isNull(raw) {
		return wrongType(name)
	}
	switch v.Kind() {
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		return decodeValue(raw, name, v.Elem())
	case reflect.Struct:
		return decodeObject(raw, name, v)
	case reflect.Slice:
		return decodeList(raw, name, v)
	}
	if json.Unmarshal(raw, v.Addr().Interface()) != nil {
		return wrongType(name)
	}
	return nil
}

func isNull(raw json.RawMessage) bool { return string(bytes.TrimSpace(raw)) == "null" }

func wrongType(name string) error {
	if name == "" {
		return badType.with("the request is not a JSON object")
	}
	return badType.with("the value of the parameter %s has the wrong type", name)
}

func decodeObject(raw json.RawMessage, name string, v reflect.Value) error {
	var given map[string]json.RawMessage
	if json.Unmarshal(raw, &given) != nil {
		return wrongType(name)
	}
	var absent []string
	for _, f := range reflect.VisibleFields(v.Type()) {
		if f.Anonymous {
			continue
		}
		key, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		value, ok := given[key]
		delete(given, key)
		if !ok || isNull(value) {
			if f.Tag.Get("need") == "yes" {
				absent = append(absent, below(name, key))
			}
			continue
		}
		if err := decodeValue(value, below(name, key), v.FieldByIndex(f.Index)); err != nil {
			return err
		}
	}
	if len(given) > 0 {
		return unknownParam.with("there is no parameter %s", below(name, slices.Min(slices.Collect(maps.Keys(given)))))
	}
	if len(absent) > 0 {
		return missing.with("the parameter %s is required", absent[0])
	}
	return nil
}

func decodeList(raw json.RawMessage, name string, v reflect.Value) error {
	var given []json.RawMessage
	if json.Unmarshal(raw, &given) != nil {
		return wrongType(name)
	}
	list := reflect.MakeSlice(v.Type(), len(given), len(given))
	for i, value := range given {
		if err := decodeValue(value, name, list.Index(i)); err != nil {
			return err
		}
	}
	v.Set(list)
	return nil
}

// below returns the full name of a parameter inside another one.
func below(name, key string) string {
	if name == "" {
		return key
	}
	return name + "." + key
}
