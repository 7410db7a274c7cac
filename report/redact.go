package report

import (
	"bytes"
	"encoding/json"
)

// Redacted returns the report with each of its texts replaced by the result of a function. Secrets
// must be removed before the report is encoded, because JSON and HTML write some characters in
// another way.
func (r Report) Redacted(redact func(string) string) (Report, error) {
	raw, err := json.Marshal(r)
	if err != nil {
		return Report{}, err
	}
	dec := json.NewDecoder(bytes.NewReader(raw))
	dec.UseNumber()
	var tree any
	if err := dec.Decode(&tree); err != nil {
		return Report{}, err
	}
	if raw, err = json.Marshal(replaced(tree, redact)); err != nil {
		return Report{}, err
	}
	var clean Report
	return clean, json.Unmarshal(raw, &clean)
}

// replaced returns a JSON value in which each text that is not a key is replaced.
func replaced(value any, by func(string) string) any {
	switch value := value.(type) {
	case string:
		return by(value)
	case []any:
		for i := range value {
			value[i] = replaced(value[i], by)
		}
	case map[string]any:
		for key := range value {
			value[key] = replaced(value[key], by)
		}
	}
	return value
}
