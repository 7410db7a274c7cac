package amazon

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/packer-chroot/packer-plugin-chroot/bake"
	"github.com/packer-chroot/packer-plugin-chroot/builder"
)

// settled returns the firmware that is chosen for an image before anything is created, and the lines
// that the user sees.
func settled(t *testing.T, opts Config, source string) (firmware, string, error) {
	t.Helper()
	var log strings.Builder
	s := &fake{actions: map[string]action{
		"DescribeImages":         images(source),
		"DescribeImageAttribute": answer("DescribeImageAttribute", "<uefiData><value>QU1aTlVFRkk=</value></uefiData>"),
	}}
	cloud := logged(faked(t, s, opts), func(format string, args ...any) { fmt.Fprintf(&log, format+"\n", args...) })
	facts := bake.Facts{}
	if !opts.FromScratch {
		found, err := cloud.client.image(context.Background(), "ami-1")
		if err != nil {
			t.Fatal(err)
		}
		image := imageOf(found)
		image.Details = &found
		facts.Source = &image
		facts.Host.Architecture = string(found.Architecture)
	}
	p, err := cloud.Publication(context.Background(), facts)
	if err != nil {
		return firmware{}, log.String(), err
	}
	return decisionsIn(p.Details).firmware, log.String(), nil
}

// aSource is an image of an architecture and a boot mode.
func aSource(architecture, mode, more string) string {
	return "<imageId>ami-1</imageId><name>base</name><imageState>available</imageState><rootDeviceType>ebs</rootDeviceType>" +
		"<rootDeviceName>xvda</rootDeviceName><virtualizationType>hvm</virtualizationType>" +
		"<architecture>" + architecture + "</architecture><bootMode>" + mode + "</bootMode>" + more
}

// TestFirmwareRefused checks that combinations that EC2 would refuse at the end are refused
// before anything is created.
func TestFirmwareRefused(t *testing.T) {
	for name, tt := range map[string]struct {
		opts   Config
		source string
		words  []string
	}{
		"a TPM, and a source that prefers UEFI": {Config{ImageConfig: ImageConfig{TPMSupport: "v2.0"}}, aSource("x86_64", "uefi-preferred", ""),
			[]string{"tpm_support", `boot_mode = "uefi"`, `source image is "uefi-preferred"`}},
		"a TPM, and a source without a boot mode": {Config{ImageConfig: ImageConfig{TPMSupport: "v2.0"}}, aSource("x86_64", "", ""), []string{"tpm_support", "source image has none"}},
		"a TPM from scratch":                      {Config{Config: builder.Config{FromScratch: true}, ImageConfig: ImageConfig{TPMSupport: "v2.0"}}, "", []string{"tpm_support", "boot_mode is not set"}},
		"UEFI data, and a source of BIOS":         {Config{ImageConfig: ImageConfig{UEFIData: "QUFB"}}, aSource("x86_64", "legacy-bios", ""), []string{"uefi_data", `"legacy-bios"`}},
		"UEFI data, and a source without a mode":  {Config{ImageConfig: ImageConfig{UEFIData: "QUFB"}}, aSource("x86_64", "", ""), []string{"uefi_data", "source image has none"}},
		"BIOS of arm64":                           {Config{ImageConfig: ImageConfig{BootMode: "legacy-bios"}}, aSource("arm64", "uefi", ""), []string{`boot_mode is "legacy-bios"`, "arm64"}},
	} {
		t.Run(name, func(t *testing.T) {
			_, _, err := settled(t, tt.opts, tt.source)
			says(t, err, tt.words...)
		})
	}
}

// TestFirmwareInherited checks that a TPM is inherited only with the boot mode uefi, and that
// the build reports a TPM that is not inherited.
func TestFirmwareInherited(t *testing.T) {
	const tpm = "<tpmSupport>v2.0</tpmSupport>"
	for name, tt := range map[string]struct {
		opts   Config
		source string
		want   string
		says   string
	}{
		"all":                        {Config{}, aSource("x86_64", "uefi", tpm), "uefi v2.0 QU1aTlVFRkk=", ""},
		"with another mode":          {Config{ImageConfig: ImageConfig{BootMode: "uefi-preferred"}}, aSource("x86_64", "uefi", tpm), "uefi-preferred  QU1aTlVFRkk=", `have a TPM, and those of the new image will not`},
		"with BIOS":                  {Config{ImageConfig: ImageConfig{BootMode: "legacy-bios"}}, aSource("x86_64", "uefi", tpm), "legacy-bios  ", `it is "legacy-bios"`},
		"arm64 without a mode":       {Config{}, aSource("arm64", "", ""), "  QU1aTlVFRkk=", ""},
		"x86_64 without a mode":      {Config{}, aSource("x86_64", "", ""), "  ", ""},
		"a TPM that is asked for":    {Config{ImageConfig: ImageConfig{BootMode: "uefi", TPMSupport: "v2.0"}}, aSource("x86_64", "uefi-preferred", ""), "uefi v2.0 QU1aTlVFRkk=", ""},
		"other UEFI data":            {Config{ImageConfig: ImageConfig{UEFIData: "QUFB"}}, aSource("x86_64", "uefi", ""), "uefi  QUFB", ""},
		"no UEFI data":               {Config{ImageConfig: ImageConfig{UEFIData: "none"}}, aSource("x86_64", "uefi", ""), "uefi  ", ""},
		"paravirtual":                {Config{}, strings.Replace(aSource("x86_64", "", ""), ">hvm<", ">paravirtual<", 1), "  ", ""},
		"no UEFI data from scratch":  {Config{Config: builder.Config{FromScratch: true}, ImageConfig: ImageConfig{BootMode: "uefi", UEFIData: "none"}}, "", "uefi  ", ""},
		"hvm of a paravirtual image": {Config{Config: builder.Config{PreMountCommands: []string{"parted"}}, ImageConfig: ImageConfig{AMIVirtualizationType: "hvm", BootMode: "uefi"}}, strings.Replace(aSource("x86_64", "", ""), ">hvm<", ">paravirtual<", 1), "uefi  ", ""},
	} {
		t.Run(name, func(t *testing.T) {
			got, log, err := settled(t, tt.opts, tt.source)
			if err != nil {
				t.Fatal(err)
			}
			data := ""
			if got.data != nil {
				data = *got.data
			}
			if now := fmt.Sprintf("%s %s %s", got.mode, got.tpm, data); now != tt.want {
				t.Errorf("firmware %q, want %q", now, tt.want)
			}
			if (log != "") != (tt.says != "") || !strings.Contains(log, tt.says) {
				t.Errorf("the user is told %q", log)
			}
		})
	}
}
