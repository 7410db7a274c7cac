//go:build unix

package main

import (
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
)

// holds returns an error if a resource does not meet the check.
func (c check) holds(resource any) error {
	text, err := json.Marshal(resource)
	if err != nil {
		return err
	}
	var tree any
	if err := json.Unmarshal(text, &tree); err != nil {
		return err
	}
	got := lookUp(tree, strings.Split(c.path, "."))
	if got == c.want || c.want == "*" && got != "" {
		return nil
	}
	return fmt.Errorf("%s %s is %q, and should be %q", strings.ToLower(c.of), c.path, got, c.want)
}

// lookUp returns the value at a path, or "" if there is none. An element of an object is
// named by its member, one of a list by its index or by the key of a tag.
func lookUp(at any, path []string) string {
	if len(path) == 0 {
		if at == nil {
			return ""
		}
		return strings.TrimSpace(fmt.Sprint(at))
	}
	switch v := at.(type) {
	case map[string]any:
		return lookUp(v[path[0]], path[1:])
	case []any:
		if n, err := strconv.Atoi(path[0]); err == nil && n < len(v) {
			return lookUp(v[n], path[1:])
		}
		for _, tag := range v {
			if m, ok := tag.(map[string]any); ok && m["Key"] == path[0] {
				return lookUp(m["Value"], nil)
			}
		}
	}
	return ""
}
