package packages

import (
	"bytes"
	"compress/gzip"
	"encoding/binary"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/packer-chroot/packer-plugin-chroot/chroot/rootfs"
	"github.com/packer-chroot/packer-plugin-chroot/testdir"
)

const dpkgStatus = `Package: nano
Status: install ok installed
Architecture: amd64
Version: 7.2-1
Description: editor
 Package: not a field
 .

Package: gone
Status: deinstall ok config-files
Architecture: amd64
Version: 1

package:  libc6
STATUS: hold ok installed
Version: 1:2.36-9`

const apkInstalled = `C:Q1abc
P:busybox
V:1.36.1-r5
A:x86_64
F:bin
R:busybox

P:musl
V:1.2.4-r2
A:x86_64
`

var (
	dpkgWant = []Package{{"dpkg", "nano", "7.2-1", "amd64"}, {"dpkg", "libc6", "1:2.36-9", ""}}
	apkWant  = []Package{{"apk", "busybox", "1.36.1-r5", "x86_64"}, {"apk", "musl", "1.2.4-r2", "x86_64"}}
	// rpmWant is what rpm -qa shows of testdata/rpmdb.sqlite.gz, which rpm 4.18 has written. The header of big
	// is in overflow pages.
	rpmWant = []Package{{"rpm", "big", "0:1.2-3", "noarch"}, {"rpm", "tiny", "4:1.2-3", "noarch"}}
)

// rpmDatabase returns a database that rpm has written.
func rpmDatabase(t testing.TB) []byte {
	t.Helper()
	f, err := os.Open(filepath.Join("testdata", "rpmdb.sqlite.gz"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	unpacked, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	content, err := io.ReadAll(unpacked)
	if err != nil {
		t.Fatal(err)
	}
	return content
}

// headers returns the headers in the database of rpmDatabase.
func headers(t testing.TB) (all [][]byte) {
	t.Helper()
	content := rpmDatabase(t)
	db, err := openSQLite(bytes.NewReader(content), int64(len(content)))
	if err != nil {
		t.Fatal(err)
	}
	root, err := db.root("Packages")
	if err != nil {
		t.Fatal(err)
	}
	err = db.rows(root, 1<<30, func(payload []byte) error {
		columns, err := record(payload)
		all = append(all, bytes.Clone(columns[1]))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// ndb returns an ndb database with these headers, with an empty slot between.
func ndb(headers [][]byte) []byte {
	le := binary.LittleEndian
	file := make([]byte, ndbPage)
	copy(file, ndbMagic)
	le.PutUint32(file[12:], 1)
	for at := ndbHeader; at < ndbPage; at += slotSize {
		copy(file[at:], slotMagic)
	}
	for i, header := range headers {
		slot := file[ndbHeader+2*i*slotSize:]
		le.PutUint32(slot[4:], uint32(i+1))
		le.PutUint32(slot[8:], uint32(len(file)/blockSize))
		blob := le.AppendUint32([]byte(blobMagic), uint32(i+1))
		blob = le.AppendUint32(blob, 0)
		blob = le.AppendUint32(blob, uint32(len(header)))
		blob = append(append(blob, header...), make([]byte, 12)...) // the tail is not read
		for len(blob)%blockSize != 0 {
			blob = append(blob, 0)
		}
		le.PutUint32(slot[12:], uint32(len(blob)/blockSize))
		file = append(file, blob...)
	}
	return file
}

func TestTextDatabases(t *testing.T) {
	for name, test := range map[string]struct {
		read func(io.Reader) ([]Package, error)
		text string
		want []Package
	}{
		"dpkg":        {readDpkg, dpkgStatus, dpkgWant},
		"apk":         {readApk, apkInstalled, apkWant},
		"empty":       {readDpkg, "", nil},
		"not text":    {readDpkg, "\x00\xff: \n\n\n:::\nPackage:\n", nil},
		"long line":   {readApk, "P:a\nD:" + strings.Repeat("x", 3*longestLine) + "\nV:1\n", []Package{{Manager: "apk", Name: "a", Version: "1"}}},
		"long name":   {readApk, "P:" + strings.Repeat("x", longestText+1) + "\nV:1\n", nil},
		"end of line": {readApk, "P:a\r\nV:1", []Package{{Manager: "apk", Name: "a", Version: "1"}}},
	} {
		got, err := test.read(strings.NewReader(test.text))
		if diff := cmp.Diff(test.want, got); diff != "" || err != nil {
			t.Errorf("%s: %v\n%s", name, err, diff)
		}
	}
}

func TestTooManyPackages(t *testing.T) {
	text := strings.Repeat("P:a\nV:1\n\n", mostPackages+1)
	if _, err := readApk(strings.NewReader(text)); err == nil {
		t.Error("read")
	}
}

func TestRPMDatabases(t *testing.T) {
	for name, content := range map[string][]byte{"sqlite": rpmDatabase(t), "ndb": ndb(headers(t))} {
		read := readSQLite
		if name == "ndb" {
			read = readNDB
		}
		got, err := read(bytes.NewReader(content), int64(len(content)))
		if diff := cmp.Diff(rpmWant, got); diff != "" || err != nil {
			t.Errorf("%s: %v\n%s", name, err, diff)
		}
		for _, length := range []int{0, 50, 4096, len(content) / 2} {
			if got, err := read(bytes.NewReader(content[:length]), int64(length)); err == nil {
				t.Errorf("%s: %d bytes are read as %v", name, length, got)
			}
		}
	}
}

// image returns a root with files.
func image(t *testing.T, files map[string]string) *rootfs.Root {
	t.Helper()
	dir := testdir.New(t)
	for path, content := range files {
		path = filepath.Join(dir, path)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if target, link := strings.CutPrefix(content, "-> "); link {
			if err := os.Symlink(target, path); err != nil {
				t.Fatal(err)
			}
			continue
		}
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	root, err := rootfs.OpenRoot(dir, "root")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(root.Close)
	return root
}

func TestReadImage(t *testing.T) {
	sqlite := string(rpmDatabase(t))
	for name, test := range map[string]struct {
		files     map[string]string
		installed int
		databases []string
		problem   string
	}{
		"nothing":           {nil, 0, nil, ""},
		"dpkg":              {map[string]string{"/var/lib/dpkg/status": dpkgStatus}, 2, []string{"/var/lib/dpkg/status"}, ""},
		"apk":               {map[string]string{"/lib/apk/db/installed": apkInstalled}, 2, []string{"/lib/apk/db/installed"}, ""},
		"apk, merged":       {map[string]string{"/usr/lib/apk/db/installed": apkInstalled, "/lib": "-> usr/lib"}, 2, []string{"/lib/apk/db/installed"}, ""},
		"rpm":               {map[string]string{"/usr/lib/sysimage/rpm/rpmdb.sqlite": sqlite, "/var/lib/rpm": "-> ../../usr/lib/sysimage/rpm"}, 2, []string{"/var/lib/rpm/rpmdb.sqlite"}, ""},
		"rpm, closed":       {map[string]string{"/var/lib/rpm/rpmdb.sqlite": sqlite, "/var/lib/rpm/rpmdb.sqlite-wal": ""}, 2, []string{"/var/lib/rpm/rpmdb.sqlite"}, ""},
		"rpm, in a log":     {map[string]string{"/var/lib/rpm/rpmdb.sqlite": sqlite, "/var/lib/rpm/rpmdb.sqlite-wal": "x"}, 0, nil, "/var/lib/rpm/rpmdb.sqlite-wal that are not in the database yet"},
		"berkeley":          {map[string]string{"/var/lib/rpm/Packages": "x"}, 0, nil, "Berkeley DB"},
		"damaged":           {map[string]string{"/var/lib/rpm/Packages.db": "x"}, 0, nil, "not an ndb database"},
		"a link to outside": {map[string]string{"/var/lib/dpkg/status": "-> /../../../../../../../../etc/passwd"}, 0, nil, ""},
		"a device":          {map[string]string{"/var/lib/dpkg/status": "-> /proc/kmsg", "/proc": "x"}, 0, nil, ""},
	} {
		got := Read(image(t, test.files))
		if len(got.Installed) != test.installed || !cmp.Equal(got.Databases, test.databases) {
			t.Errorf("%s: %+v", name, got)
		}
		if problems := strings.Join(got.Problems, "; "); (problems == "") != (test.problem == "") || !strings.Contains(problems, test.problem) {
			t.Errorf("%s: problems %q, want %q", name, problems, test.problem)
		}
	}
}

// TestPipeIsNotWaitedFor checks that a named pipe in the place of a database is a problem, and does not stop
// the build.
func TestPipeIsNotWaitedFor(t *testing.T) {
	root := image(t, map[string]string{"/var/lib/dpkg/x": ""})
	if err := unix.Mkfifo(filepath.Join(root.ProcPath(), "var/lib/dpkg/status"), 0o600); err != nil {
		t.Fatal(err)
	}
	done := make(chan List, 1)
	go func() { done <- Read(root) }()
	select {
	case got := <-done:
		if len(got.Problems) != 1 || !strings.Contains(got.Problems[0], "not a regular file") {
			t.Errorf("%+v", got)
		}
	case <-time.After(time.Minute):
		t.Fatal("it waits for the pipe")
	}
}

// checkAll fails the test if a package is not valid.
func checkAll(t *testing.T, all []Package) {
	for _, p := range all {
		if !p.valid() {
			t.Errorf("%+v", p)
		}
	}
}

func FuzzDpkg(f *testing.F) {
	f.Add([]byte(dpkgStatus))
	f.Fuzz(func(t *testing.T, content []byte) {
		all, _ := readDpkg(bytes.NewReader(content))
		checkAll(t, all)
	})
}

func FuzzApk(f *testing.F) {
	f.Add([]byte(apkInstalled))
	f.Fuzz(func(t *testing.T, content []byte) {
		all, _ := readApk(bytes.NewReader(content))
		checkAll(t, all)
	})
}

func FuzzRPMHeader(f *testing.F) {
	for _, header := range headers(f) {
		f.Add(header[:min(len(header), 4096)])
	}
	f.Fuzz(func(t *testing.T, header []byte) {
		if p, err := readHeader(header); err == nil {
			checkAll(t, []Package{p})
		}
	})
}

func FuzzSQLite(f *testing.F) {
	content := rpmDatabase(f)
	f.Add(content[:3*4096], uint16(0), uint16(0))
	f.Add(content, uint16(100), uint16(5))
	f.Fuzz(func(t *testing.T, content []byte, at, value uint16) {
		if int(at)+2 <= len(content) {
			content = bytes.Clone(content)
			binary.BigEndian.PutUint16(content[at:], value)
		}
		all, _ := readSQLite(bytes.NewReader(content), int64(len(content)))
		checkAll(t, all)
	})
}

func FuzzNDB(f *testing.F) {
	f.Add(ndb(headers(f)[1:]))
	f.Fuzz(func(t *testing.T, content []byte) {
		all, _ := readNDB(bytes.NewReader(content), int64(len(content)))
		checkAll(t, all)
	})
}
