package builder_test

import (
	"strings"
	"testing"

	"github.com/packer-chroot/packer-plugin-chroot/builder"
)

func TestImageNames(t *testing.T) {
	for name, want := range map[string]string{
		"":                       "is required",
		"ab":                     `"ab" has 2 characters, but must have 3 to 128`,
		"abc":                    "",
		strings.Repeat("a", 128): "",
		strings.Repeat("a", 129): "129 characters",
		"a b c":                  "",
		"abc1":                   "small letters and spaces",
		"abc\n":                  "small letters and spaces",
	} {
		err := kind.CheckName("x_name", name)
		if (err == nil) != (want == "") {
			t.Errorf("%q: %v", name, err)
		} else if err != nil {
			mustContain(t, err.Error(), "x_name", want)
		}
	}
}

func TestKeysGoTogether(t *testing.T) {
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
		{"", true, "virt is required"}, {"xen", false, `virt is "xen"`},
	} {
		err := builder.CheckVirtualization("virt", test.given, test.scratch)
		if (err == nil) != (test.want == "") {
			t.Errorf("%+v: %v", test, err)
		} else if err != nil {
			mustContain(t, err.Error(), test.want)
		}
	}
}
