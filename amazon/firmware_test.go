package amazon

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/packer-chroot/packer-plugin-chroot/bake"
)

// firmwareOf settles the firmware of an image before anything is created, with what the
// user is told.
func settled(t *testing.T, opts Options, source string) (firmware, string, error) {
	t.Helper()
	var log strings.Builder
	s := &fake{actions: map[string]action{
		"DescribeImages":         images(source),
		"DescribeImageAttribute": answer("DescribeImageAttribute", "<uefiData><value>QU1aTlVFRkk=</value></uefiData>"),
	}}
	opts.Log = func(format string, args ...any) { fmt.Fprintf(&log, format+"\n", args...) }
	cloud := faked(t, s, opts)
	facts := bake.Facts{}
	if !opts.FromScratch {
		found, err := cloud.client.image(context.Background(), "ami-1")
		if err != nil {
			t.Fatal(err)
		}
		cloud.source = &found
		image := imageOf(found)
		facts.Source = &image
		cloud.host.architecture = found.Architecture
	}
	_, err := cloud.Publication(context.Background(), facts)
	if err != nil {
		return firmware{}, log.String(), err
	}
	return *cloud.firmware, log.String(), nil
}

// aSource is an image of an architecture and a boot mode.
func aSource(architecture, mode, more string) string {
	return "<imageId>ami-1</imageId><name>base</name><imageState>available</imageState><rootDeviceType>ebs</rootDeviceType>" +
		"<rootDeviceName>xvda</rootDeviceName><virtualizationType>hvm</virtualizationType>" +
		"<architecture>" + architecture + "</architecture><bootMode>" + mode + "</bootMode>" + more
}

// TestFirmwareRefused: what EC2 would refuse in the end is refused before anything is
// created.
func TestFirmwareRefused(t *testing.T) {
	for name, tt := range map[string]struct {
		opts   Options
		source string
		words  []string
	}{
		"a TPM, and a source that prefers UEFI": {Options{TPMSupport: "v2.0"}, aSource("x86_64", "uefi-preferred", ""),
			[]string{"tpm_support", `boot_mode = "uefi"`, `source image is "uefi-preferred"`}},
		"a TPM, and a source without a boot mode": {Options{TPMSupport: "v2.0"}, aSource("x86_64", "", ""), []string{"tpm_support", "source image has none"}},
		"a TPM from scratch":                      {Options{FromScratch: true, TPMSupport: "v2.0"}, "", []string{"tpm_support", "boot_mode is not set"}},
		"UEFI data, and a source of BIOS":         {Options{UEFIData: "QUFB"}, aSource("x86_64", "legacy-bios", ""), []string{"uefi_data", `"legacy-bios"`}},
		"UEFI data, and a source without a mode":  {Options{UEFIData: "QUFB"}, aSource("x86_64", "", ""), []string{"uefi_data", "source image has none"}},
		"BIOS of arm64":                           {Options{BootMode: "legacy-bios"}, aSource("arm64", "uefi", ""), []string{`boot_mode is "legacy-bios"`, "arm64"}},
	} {
		t.Run(name, func(t *testing.T) {
			_, _, err := settled(t, tt.opts, tt.source)
			says(t, err, tt.words...)
		})
	}
}

// TestFirmwareInherited: a TPM is inherited with the boot mode uefi only, and that it is
// not is said.
func TestFirmwareInherited(t *testing.T) {
	const tpm = "<tpmSupport>v2.0</tpmSupport>"
	for name, tt := range map[string]struct {
		opts   Options
		source string
		want   string
		says   string
	}{
		"all":                        {Options{}, aSource("x86_64", "uefi", tpm), "uefi v2.0 QU1aTlVFRkk=", ""},
		"with another mode":          {Options{BootMode: "uefi-preferred"}, aSource("x86_64", "uefi", tpm), "uefi-preferred  QU1aTlVFRkk=", `have a TPM, and those of the new image will not`},
		"with BIOS":                  {Options{BootMode: "legacy-bios"}, aSource("x86_64", "uefi", tpm), "legacy-bios  ", `it is "legacy-bios"`},
		"arm64 without a mode":       {Options{}, aSource("arm64", "", ""), "  QU1aTlVFRkk=", ""},
		"x86_64 without a mode":      {Options{}, aSource("x86_64", "", ""), "  ", ""},
		"a TPM that is asked for":    {Options{BootMode: "uefi", TPMSupport: "v2.0"}, aSource("x86_64", "uefi-preferred", ""), "uefi v2.0 QU1aTlVFRkk=", ""},
		"other UEFI data":            {Options{UEFIData: "QUFB"}, aSource("x86_64", "uefi", ""), "uefi  QUFB", ""},
		"no UEFI data":               {Options{UEFIData: "none"}, aSource("x86_64", "uefi", ""), "uefi  ", ""},
		"paravirtual":                {Options{}, strings.Replace(aSource("x86_64", "", ""), ">hvm<", ">paravirtual<", 1), "  ", ""},
		"no UEFI data from scratch":  {Options{FromScratch: true, BootMode: "uefi", UEFIData: "none"}, "", "uefi  ", ""},
		"hvm of a paravirtual image": {Options{VirtualizationType: "hvm", Repartitions: true, BootMode: "uefi"}, strings.Replace(aSource("x86_64", "", ""), ">hvm<", ">paravirtual<", 1), "uefi  ", ""},
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
