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
	return readParagraphs(r, dpkgField, func(fields map[string]string) (p Package, installed bool) {
		status := strings.Fields(fields["status"])
		p = Package{Manager: "dpkg", Name: fields["package"], Version: fields["version"], Arch: fields["architecture"]}
		return p, len(status) == 3 && status[2] == "installed"
	})
}

// dpkgField returns the name of the field that begins in a line, in lower case, and its value. The name is
// empty if the field is not needed, or the line continues one.
func dpkgField(line string) (name, value string) {
	name, value, ok := strings.Cut(line, ":")
	if !ok {
		return "", ""
	}
	switch name = strings.ToLower(name); name {
	case "package", "version", "architecture", "status":
		return name, strings.TrimSpace(value)
	}
	return "", ""
}

// readApk reads a database of apk: paragraphs of lines such as P:busybox.
func readApk(r io.Reader) ([]Package, error) {
	return readParagraphs(r, apkField, func(fields map[string]string) (p Package, installed bool) {
		return Package{Manager: "apk", Name: fields["P"], Version: fields["V"], Arch: fields["A"]}, true
	})
}

// apkField returns the name and the value of a field. The name is empty if the field is not needed.
func apkField(line string) (name, value string) {
	name, value, _ = strings.Cut(line, ":")
	switch name {
	case "P", "V", "A":
		return name, value
	}
	return "", ""
}

// readParagraphs reads paragraphs of fields, which empty lines separate, and returns their packages. If a
// paragraph has a field twice, the last one counts.
func readParagraphs(r io.Reader, field func(line string) (name, value string), of func(fields map[string]string) (p Package, installed bool)) ([]Package, error) {
	var all []Package
	fields := map[string]string{}
	end := func() error {
		if p, installed := of(fields); installed && p.valid() {
			all = append(all, p)
		}
		clear(fields)
		return tooMany(all)
	}
	err := eachLine(r, func(line string) error {
		if strings.TrimSpace(line) == "" {
			return end()
		}
		if name, value := field(line); name != "" {
			fields[name] = value
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
