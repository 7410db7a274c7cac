package report

import (
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// pageSuffix ends the path of a page.
const pageSuffix = ".html"

// paths returns the paths of the page, of the JSON and of the trace events.
func paths(page string) (all [3]string) {
	stem := strings.TrimSuffix(page, pageSuffix)
	return [3]string{page, stem + ".json", stem + ".trace.json"}
}

// CheckName returns an error if a path cannot be that of a page, whatever files exist.
func CheckName(page string) error {
	if base := filepath.Base(page); !strings.HasSuffix(base, pageSuffix) || base == pageSuffix {
		return fmt.Errorf("%q does not end with a file name such as build%s", page, pageSuffix)
	}
	return nil
}

// Check returns an error if a report cannot be written. It creates files with temporary names, and
// removes them.
func Check(page string) error {
	if err := CheckName(page); err != nil {
		return err
	}
	for _, path := range paths(page) {
		info, err := os.Lstat(path)
		if err == nil && !info.Mode().IsRegular() {
			return fmt.Errorf("%s exists and is not a regular file", path)
		}
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
		if err := checkWritable(path); err != nil {
			return err
		}
	}
	return nil
}

// checkWritable returns an error if no file can be created beside a path.
func checkWritable(path string) error {
	f, err := createBeside(path)
	if err != nil {
		return err
	}
	return errors.Join(f.Close(), os.Remove(f.Name()))
}

// createBeside creates a file with a temporary name in the directory of a path. A link with that name is not
// followed.
func createBeside(path string) (*os.File, error) {
	name := filepath.Join(filepath.Dir(path), "."+filepath.Base(path)+"."+rand.Text()[:12])
	return os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644) //nolint:gosec // for the tools that publish it; it has no secrets
}

// Write writes a report: the page, the JSON and the trace events. Each file is complete or not changed.
func (r Report) Write(page string) error {
	text, err := r.Page()
	if err != nil {
		return err
	}
	data, err := r.JSON()
	if err != nil {
		return err
	}
	trace, err := r.Trace()
	if err != nil {
		return err
	}
	for i, content := range [][]byte{text, data, trace} {
		err = errors.Join(err, replaceFile(paths(page)[i], content))
	}
	return err
}

// JSON returns the report as JSON.
func (r Report) JSON() ([]byte, error) {
	text, err := json.MarshalIndent(r, "", "  ")
	return append(text, '\n'), err
}

// replaceFile writes a file under a temporary name, and renames it when it is complete.
func replaceFile(path string, content []byte) error {
	f, err := createBeside(path)
	if err != nil {
		return err
	}
	_, err = f.Write(content)
	err = errors.Join(err, f.Close())
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		_ = os.Remove(f.Name())
	}
	return err
}
