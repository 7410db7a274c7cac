package packages

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"strings"
)

// errTooMany is the error for a database with too many packages.
var errTooMany = fmt.Errorf("it has more than %d packages", mostPackages)

// longestLine is the maximum length of a line. Longer lines, such as long lists of dependencies, are left out.
const longestLine = 1 << 20

// readDpkg reads a dpkg status file: paragraphs of fields, as in deb822(5). Only installed packages are
// returned, and not those of which only the configuration is left.
func readDpkg(r io.Reader) ([]Package, error) {
	var all []Package
	p, status := Package{Manager: "dpkg"}, ""
	end := func() error {
		if fields := strings.Fields(status); p.valid() && len(fields) == 3 && fields[2] == "installed" {
			all = append(all, p)
		}
		p, status = Package{Manager: "dpkg"}, ""
		return tooMany(all)
	}
	err := eachLine(r, func(line string) error {
		if strings.TrimSpace(line) == "" {
			return end()
		}
		name, value, ok := strings.Cut(line, ":")
		if !ok || strings.HasPrefix(line, " ") || strings.HasPrefix(line, "\t") {
			return nil // the continuation of a field
		}
		value = strings.TrimSpace(value)
		switch strings.ToLower(name) {
		case "package":
			p.Name = value
		case "version":
			p.Version = value
		case "architecture":
			p.Arch = value
		case "status":
			status = value
		}
		return nil
	})
	return all, errors.Join(err, end())
}

// readApk reads a database of apk: paragraphs of lines such as P:busybox.
func readApk(r io.Reader) ([]Package, error) {
	var all []Package
	p := Package{Manager: "apk"}
	end := func() error {
		if p.valid() {
			all = append(all, p)
		}
		p = Package{Manager: "apk"}
		return tooMany(all)
	}
	err := eachLine(r, func(line string) error {
		if line == "" {
			return end()
		}
		name, value, _ := strings.Cut(line, ":")
		switch name {
		case "P":
			p.Name = value
		case "V":
			p.Version = value
		case "A":
			p.Arch = value
		}
		return nil
	})
	return all, errors.Join(err, end())
}

// tooMany returns an error if there are too many packages.
func tooMany(all []Package) error {
	if len(all) > mostPackages {
		return errTooMany
	}
	return nil
}

// eachLine calls a function with each line that is not too long, without its end, until it returns an error.
func eachLine(r io.Reader, call func(string) error) error {
	in := bufio.NewReaderSize(r, longestLine)
	for {
		line, err := in.ReadSlice('\n')
		long := errors.Is(err, bufio.ErrBufferFull)
		text := strings.ToValidUTF8(strings.TrimRight(string(line), "\r\n"), "�")
		for errors.Is(err, bufio.ErrBufferFull) {
			_, err = in.ReadSlice('\n')
		}
		if err != nil && !errors.Is(err, io.EOF) {
			return err
		}
		if ended := err != nil; ended && len(line) == 0 {
			return nil
		}
		if !long {
			if stop := call(text); stop != nil {
				return stop
			}
		}
		if err != nil {
			return nil //nolint:nilerr // the end of the file
		}
	}
}
