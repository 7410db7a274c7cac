package cache

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"strings"
	"testing"

	"github.com/packer-chroot/packer-plugin-chroot/lazydisk/block"
)

func TestParseSize(t *testing.T) {
	for text, want := range map[string]int64{
		"0": 0, "1073741824": 1 << 30, "20GiB": 20 << 30, "20 GiB": 20 << 30, "500M": 500 << 20, "3T": 3 << 40,
		"": -1, "GiB": -1, "-1G": -1, "1.5G": -1, "20GB": -1, "20": -1, "528383": -1, "528384": 528384, "515K": -1, "9223372036854775807T": -1, "x": -1,
	} {
		if got, err := ParseSize(text); want >= 0 && (err != nil || got != want) || want < 0 && err == nil {
			t.Errorf("%q is %d, %v", text, got, err)
		}
	}
}

func TestFromEnvironment(t *testing.T) {
	t.Setenv(DirVariable, "")
	t.Setenv(SizeVariable, "")
	if o, err := FromEnvironment(Options{}); err != nil || o != (Options{DefaultDir, DefaultSize}) {
		t.Errorf("the defaults are %+v, %v", o, err)
	}
	t.Setenv(DirVariable, "/srv/blocks")
	t.Setenv(SizeVariable, "3GiB")
	if o, err := FromEnvironment(Options{}); err != nil || o != (Options{"/srv/blocks", 3 << 30}) {
		t.Errorf("the environment gives %+v, %v", o, err)
	}
	if o, err := FromEnvironment(Options{"/opt", 1}); err != nil || o != (Options{"/opt", 1}) {
		t.Errorf("options are replaced: %+v, %v", o, err)
	}
	t.Setenv(DirVariable, "blocks")
	if _, err := FromEnvironment(Options{}); err == nil || !strings.Contains(err.Error(), DirVariable+` is "blocks"`) {
		t.Errorf("a relative directory: %v", err)
	}
	t.Setenv(DirVariable, "")
	t.Setenv(SizeVariable, "much")
	if _, err := FromEnvironment(Options{}); err == nil {
		t.Error("a wrong size is accepted")
	}
}

// FuzzHeader: a header that is accepted is encoded as it was read, except for bytes without a meaning.
func FuzzHeader(f *testing.F) {
	data := bytes.Repeat([]byte("0123456789abcdef"), block.Size/16)
	h := newHeader(sha256.Sum256([]byte("key")), 17, sha256.Sum256(data), data)
	f.Add(h.encode())
	f.Add([]byte(magic))
	f.Add(make([]byte, headerSize))
	f.Fuzz(func(t *testing.T, raw []byte) {
		h, err := decodeHeader(raw)
		if err != nil {
			if !errors.Is(err, errDamaged) {
				t.Errorf("the error is %v", err)
			}
			return
		}
		again, err := decodeHeader(h.encode())
		if err != nil || *again != *h {
			t.Errorf("%+v came back as %+v, %v", h, again, err)
		}
		if page := data[:block.PageSize]; h.verify(page, 0) == nil && h.verify(append([]byte{^page[0]}, page[1:]...), 0) == nil {
			t.Error("two different pages have the checksum")
		}
	})
}
