package packages

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/packer-chroot/packer-plugin-chroot/chroot/rootfs"
)

// database is a file that can be the database of a package manager.
type database struct {
	path string
	read func(file *os.File, bytes int64) ([]Package, error)
	// unless is a file beside it that must be missing or empty: a log of changes that are not in the database
	// yet.
	unless string
}

// rpmDirs are the directories where rpm has its database, which can be links to each other.
var rpmDirs = []string{"/var/lib/rpm", "/usr/lib/sysimage/rpm", "/usr/share/rpm"}

// databases returns the files to read.
func databases() []database {
	all := []database{
		{path: "/var/lib/dpkg/status", read: text(readDpkg)},
		{path: "/lib/apk/db/installed", read: text(readApk)},
		{path: "/usr/lib/apk/db/installed", read: text(readApk)},
	}
	for _, dir := range rpmDirs {
		all = append(all,
			database{dir + "/rpmdb.sqlite", binaryFile(readSQLite), dir + "/rpmdb.sqlite-wal"},
			database{dir + "/Packages.db", binaryFile(readNDB), ""},
			database{dir + "/Packages", berkeley, ""},
		)
	}
	return all
}

// text returns the reader of a database that is text.
func text(read func(io.Reader) ([]Package, error)) func(*os.File, int64) ([]Package, error) {
	return func(f *os.File, bytes int64) ([]Package, error) {
		if bytes > mostText {
			return nil, fmt.Errorf("it has %d bytes, and at most %d are read", bytes, mostText)
		}
		return read(io.LimitReader(f, mostText))
	}
}

// binaryFile returns the reader of a database that is not text.
func binaryFile(read func(io.ReaderAt, int64) ([]Package, error)) func(*os.File, int64) ([]Package, error) {
	return func(f *os.File, bytes int64) ([]Package, error) { return read(f, bytes) }
}

// berkeley refuses a Berkeley DB, which rpm has used until 2020.
func berkeley(*os.File, int64) ([]Package, error) {
	return nil, errors.New("it is a Berkeley DB, and packages are only read from databases in SQLite or ndb")
}

// Read returns the packages of an image. A database that cannot be read is a problem, and missing
// packages are not an error.
func Read(in *rootfs.Root) List {
	var l List
	seen := map[rootfs.Inode]bool{}
	for _, db := range databases() {
		found, err := db.packages(in, seen)
		switch {
		case errors.Is(err, os.ErrNotExist) || errors.Is(err, unix.ENOTDIR):
		case err != nil:
			l.Problems = append(l.Problems, fmt.Sprintf("the packages in %s cannot be read: %v", db.path, err))
		case found != nil:
			l.Databases, l.Installed = append(l.Databases, db.path), append(l.Installed, *found...)
		}
	}
	slices.SortFunc(l.Installed, func(a, b Package) int {
		return cmp.Or(cmp.Compare(a.Name, b.Name), cmp.Compare(a.Arch, b.Arch), cmp.Compare(a.Version, b.Version))
	})
	return l
}

// packages reads a database; nil if it is one that was read by another path.
func (db database) packages(in *rootfs.Root, seen map[rootfs.Inode]bool) (*[]Package, error) {
	f, err := in.OpenFile(db.path, unix.O_RDONLY)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil {
		return nil, err
	}
	if seen[rootfs.InodeOf(&st)] {
		return nil, nil
	}
	seen[rootfs.InodeOf(&st)] = true
	if err := db.complete(in); err != nil {
		return nil, err
	}
	found, err := db.read(f, st.Size)
	if err != nil {
		return nil, err
	}
	return &found, nil
}

// complete returns an error if there are changes that are not in the database yet.
func (db database) complete(in *rootfs.Root) error {
	if db.unless == "" {
		return nil
	}
	log, err := in.OpenFile(db.unless, unix.O_RDONLY)
	if err != nil {
		return rootfs.IgnoreMissing(err)
	}
	defer log.Close()
	info, err := log.Stat()
	if err == nil && info.Size() > 0 {
		err = fmt.Errorf("there are changes in %s that are not in the database yet", db.unless)
	}
	return err
}
