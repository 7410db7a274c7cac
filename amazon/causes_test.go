package amazon

import (
	"context"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/packer-chroot/packer-plugin-chroot/bake"
	"github.com/packer-chroot/packer-plugin-chroot/builder/buildertest"
)

// TestFaultsOfACertificate checks that an error names the fault of EC2's certificate and the
// option that accepts it. The option applies to EC2 only.
func TestFaultsOfACertificate(t *testing.T) {
	for _, fault := range buildertest.CertificateFaults() {
		t.Run(fault.Name, func(t *testing.T) {
			alone(t)
			url := fault.Serve(t, http.NotFoundHandler())
			err := look(t.Context(), NewCloud(dial(t, access(url)), &Config{}, nil))
			says(t, err, append(fault.Words, url, "insecure_skip_tls_verify")...)
			t.Setenv("AWS_ENDPOINT_URL_STS", url)
			a := access("")
			a.AssumeRole = AssumeRoleConfig{RoleARN: "arn:aws:iam::123456789012:role/packer"}
			_, err = Dial(t.Context(), a, 0)
			says(t, err, append(fault.Words, url, "AWS_CA_BUNDLE")...)
			if strings.Contains(err.Error(), "insecure_skip_tls_verify") {
				t.Errorf("the option does not hold for STS: %v", err)
			}
		})
	}
}

// TestPlainEndpoint checks that the error says that the endpoint does not use TLS.
func TestPlainEndpoint(t *testing.T) {
	s := &fake{t: t}
	url := strings.Replace(serve(t, s).URL, "http:", "https:", 1)
	err := look(t.Context(), NewCloud(dial(t, access(url)), &Config{}, nil))
	says(t, err, "does not speak TLS", "http://", "custom_endpoint_ec2")
}

// TestUnknownRegion checks that the error names the region if the host of its endpoint cannot
// be found.
func TestUnknownRegion(t *testing.T) {
	alone(t)
	for name, test := range map[string]struct {
		option, env string
		want        []string
	}{
		"option":      {"eu-wset-1", "", []string{`region is "eu-wset-1"`}},
		"environment": {"", "eu-wset-1", []string{`AWS_REGION is "eu-wset-1"`}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Setenv("AWS_REGION", test.env)
			a := access("")
			a.Region = test.option
			c := dial(t, a)
			c.endpoint = "http://ec2." + c.Region() + ".invalid" // a name that no resolver has
			c.ec2 = c.in(c.Region())
			c.endpoint = ""
			err := look(t.Context(), NewCloud(c, &Config{}, nil))
			says(t, err, append(test.want, "no host ec2.eu-wset-1.invalid", "check the region's name")...)
		})
	}
}

// TestRegionThatIsNotEnabled checks the error for a region that the account has not enabled.
// EC2 refuses the keys there as it refuses wrong ones.
func TestRegionThatIsNotEnabled(t *testing.T) {
	for region, optIn := range map[string]bool{"eu-south-1": true, "eu-west-1": false} {
		s := &fake{actions: map[string]action{"DescribeImages": refuseWith(http.StatusUnauthorized, "AuthFailure")}}
		a := access(serve(t, s).URL)
		a.Region = region
		err := look(t.Context(), NewCloud(dial(t, a), &Config{}, nil))
		says(t, err, "check access_key and secret_key")
		if got := strings.Contains(err.Error(), `region is "eu-south-1"`) && strings.Contains(err.Error(), "enabled it"); got != optIn {
			t.Errorf("%s: %v", region, err)
		}
	}
}

// TestKeysRefusedDuringBuild checks that keys that EC2 accepted before are not reported as
// misspelt.
func TestKeysRefusedDuringBuild(t *testing.T) {
	s := &fake{actions: map[string]action{"DescribeImages": inTurn(answer("DescribeImages", "<imagesSet/>"), refuseWith(http.StatusUnauthorized, "AuthFailure"))}}
	cloud := faked(t, s, Config{})
	if err := look(t.Context(), cloud); err != nil {
		t.Fatal(err)
	}
	says(t, look(t.Context(), cloud), "which it accepted before", "disabled or deleted")
}

// TestCauseOfAnUndecodedDenial checks that the error says why STS did not decode a refusal.
func TestCauseOfAnUndecodedDenial(t *testing.T) {
	for code, test := range map[string]struct{ want, not string }{
		"AccessDenied":                         {"needs the permission sts:DecodeAuthorizationMessage", "cannot be decoded"},
		"InvalidAuthorizationMessageException": {"the message cannot be decoded", "needs the permission"},
		"ServiceUnavailable":                   {"STS could not be asked", "needs the permission"},
		"":                                     {"STS answered what is no decoded message", "needs the permission"},
	} {
		t.Run(code, func(t *testing.T) {
			alone(t)
			s := &fake{t: t, actions: map[string]action{
				"CreateVolume": denied("You are not authorized to perform this operation. " + encodedMark + "encoded"),
				"DecodeAuthorizationMessage": func(url.Values) (int, string) {
					return http.StatusForbidden, "<ErrorResponse><Error><Type>Sender</Type><Code>" + code + "</Code><Message>no</Message></Error></ErrorResponse>"
				},
			}}
			if code == "" {
				s.actions["DecodeAuthorizationMessage"] = answer("DecodeAuthorizationMessage", "<DecodeAuthorizationMessageResult><DecodedMessage>{</DecodedMessage></DecodeAuthorizationMessageResult>")
			}
			endpoint := serve(t, s).URL
			t.Setenv("AWS_ENDPOINT_URL_STS", endpoint)
			t.Setenv("AWS_MAX_ATTEMPTS", "1")
			a := access(endpoint)
			a.DecodeAuthorizationMessages = true
			_, err := NewCloud(dial(t, a), &Config{}, nil).CreateVolume(context.Background(), bake.VolumeSpec{Zone: "eu-west-1a", SizeGiB: 1})
			says(t, err, "UnauthorizedOperation", "decode_authorization_messages has no effect", test.want, "do not allow ec2:CreateVolume")
			if strings.Contains(err.Error(), test.not) {
				t.Errorf("%v", err)
			}
		})
	}
}
