package builder

import (
	"errors"
	"fmt"
	"net/url"
	"regexp"
	"slices"
	"strings"
)

// CheckOneOf returns an error if the value of an option is none of the known words. Empty is the
// default.
func CheckOneOf(option, given string, known ...string) error {
	if given == "" || slices.Contains(known, given) {
		return nil
	}
	return fmt.Errorf("%s is %q, but must be one of %s", option, given, strings.Join(known, ", "))
}

// accountID is the form of the id of an account, with both clouds.
var accountID = regexp.MustCompile(`^[0-9]{12}$`)

// CheckAccounts returns which of the ids, given as option, are no account's.
func CheckAccounts(option string, ids []string) []error {
	return CheckEach(option, ids, accountID, "the id of an account, which has 12 digits")
}

// CheckGroups returns which of the groups, given as option, no cloud has.
func CheckGroups(option string, groups []string) []error {
	return CheckEach(option, groups, everybody, "all, the only group that there is")
}

// everybody is the group of all accounts.
var everybody = regexp.MustCompile(`^all$`)

// CheckEach returns an error for each text of an option that does not match the form; want
// describes the form to the user.
func CheckEach(option string, texts []string, form *regexp.Regexp, want string) []error {
	var errs []error
	for i, text := range texts {
		if !form.MatchString(text) {
			errs = append(errs, fmt.Errorf("%s is %q, but must be %s", entry(option, i), text, want))
		}
	}
	return errs
}

// CheckKeys fails when one of a key pair was given without the other.
func CheckKeys(access, secret string) error {
	switch {
	case access != "" && secret == "":
		return errors.New("access_key is given without secret_key")
	case access == "" && secret != "":
		return errors.New("secret_key is given without access_key")
	}
	return nil
}

// Endpoint makes a URL of a custom endpoint: https is added where the user gave
// a host alone. Empty stays empty.
func Endpoint(option, given string) (string, error) {
	if given == "" {
		return "", nil
	}
	full := given
	if !strings.Contains(full, "://") {
		full = "https://" + full
	}
	u, err := url.Parse(full)
	if err != nil || u.Host == "" || (u.Scheme != "https" && u.Scheme != "http") {
		return "", fmt.Errorf("%s is %q, but must be a URL such as https://host", option, given)
	}
	return full, nil
}

// CheckVirtualization fails when the virtualization type is not one that images
// can have, or is missing in a build that cannot inherit it.
func CheckVirtualization(option, given string, fromScratch bool) error {
	if given == "" && fromScratch {
		return fmt.Errorf("%s is required with from_scratch", option)
	}
	return CheckOneOf(option, given, "hvm", "paravirtual")
}
