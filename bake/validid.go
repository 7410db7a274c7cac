package bake

import (
	"fmt"
	"regexp"
)

// validIDPattern matches the ids of both clouds, such as vol-0a1b2c3d. They become parts
// of paths, so that they must be no more than a name.
var validIDPattern = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9-]{0,127}$`)

// validID rejects the answer to a creating call if it is not an id. The resource is then
// searched for, as if there had been no answer.
func validID[ID ~string](id ID, err error) (ID, error) {
	switch {
	case validIDPattern.MatchString(string(id)):
		return id, err
	case err == nil:
		err = fmt.Errorf("the cloud answered with %.200q, which is no id", id)
	}
	return "", err
}
