package bake

import (
	"fmt"
	"regexp"
)

// soundID is what ids of both clouds look like, and of those that speak as they do:
// vol-0a1b2c3d. They become parts of paths, where no more than a name may.
var soundID = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9-]{0,127}$`)

// sound refuses what is no id in the answer to a creating call. What it has made is
// then looked for, as if there had been no answer.
func sound[ID ~string](id ID, err error) (ID, error) {
	switch {
	case soundID.MatchString(string(id)):
		return id, err
	case err == nil:
		err = fmt.Errorf("the cloud answered with %.200q, which is no id", id)
	}
	return "", err
}
