package builder_test

import (
	"fmt"
	"testing"

	"github.com/packer-chroot/packer-plugin-chroot/builder"
)

func TestListsOfIDs(t *testing.T) {
	for _, test := range []struct {
		check func(string, []string) []error
		give  string
		good  bool
	}{
		{builder.CheckAccounts, "123456789012", true},
		{builder.CheckAccounts, "12345678901", false},
		{builder.CheckAccounts, "1234567890123", false},
		{builder.CheckAccounts, "self", false},
		{builder.CheckAccounts, "", false},
		{builder.CheckGroups, "all", true},
		{builder.CheckGroups, "all of them", false},
		{builder.CheckGroups, "", false},
	} {
		errs := test.check("option", []string{test.give, test.give})
		switch {
		case test.good && len(errs) > 0:
			t.Errorf("%q: %v", test.give, errs)
		case !test.good && len(errs) != 2:
			t.Errorf("%q twice: %d errors", test.give, len(errs))
		case !test.good:
			mustContain(t, fmt.Sprint(errs[1]), "option[1]", fmt.Sprintf("%q", test.give))
		}
	}
}

func TestKeyNeedsItsSecret(t *testing.T) {
	for _, test := range []struct{ access, secret, want string }{
		{"", "", ""}, {"a", "s", ""}, {"a", "", "without secret_key"}, {"", "s", "without access_key"},
	} {
		err := builder.CheckKeys(test.access, test.secret)
		if (err == nil) != (test.want == "") {
			t.Errorf("%+v: %v", test, err)
		} else if err != nil {
			mustContain(t, err.Error(), test.want)
		}
	}
}

func TestEndpoints(t *testing.T) {
	for given, want := range map[string]string{
		"":                          "",
		"https://ec2.example.com":   "https://ec2.example.com",
		"http://127.0.0.1:1/api/v1": "http://127.0.0.1:1/api/v1",
		"ec2.example.com":           "https://ec2.example.com",
		"127.0.0.1:8080":            "https://127.0.0.1:8080",
		"ftp://example.com":         "error",
		"https://":                  "error",
		"https://a b":               "error",
	} {
		got, err := builder.Endpoint("custom_endpoint", given)
		if want == "error" {
			if err == nil {
				t.Errorf("%q becomes %q", given, got)
			} else {
				mustContain(t, err.Error(), "custom_endpoint", given)
			}
			continue
		}
		if err != nil || got != want {
			t.Errorf("%q becomes %q, %v; want %q", given, got, err, want)
		}
	}
}

func TestVirtualization(t *testing.T) {
	for _, test := range []struct {
		given   string
		scratch bool
		want    string
	}{
		{"", false, ""}, {"hvm", true, ""}, {"paravirtual", false, ""},
		{"", true, "virt is required"}, {"xen", false, `virt is "xen", but must be one of hvm, paravirtual`},
	} {
		err := builder.CheckVirtualization("virt", test.given, test.scratch)
		if (err == nil) != (test.want == "") {
			t.Errorf("%+v: %v", test, err)
		} else if err != nil {
			mustContain(t, err.Error(), test.want)
		}
	}
}
