//go:build linux

package loopcloud

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"

	"github.com/packer-chroot/packer-plugin-chroot/loopcloud/volume"
	"github.com/packer-chroot/packer-plugin-chroot/remove"
)

// Client calls the control API of a running loopcloud. It has methods of Server, and reads and
// writes files itself, so that it can do only what its user can.
type Client struct {
	// Endpoint is the URL of loopcloud, such as http://127.0.0.1:4600.
	Endpoint string
	// Token is the control token: see ReadToken.
	Token string
}

// Images returns the images of all accounts and regions, oldest first.
func (c Client) Images(ctx context.Context) ([]Image, error) {
	var all []Image
	err := c.call(ctx, http.MethodGet, "images", nil, decodeJSON(&all))
	return all, err
}

// Import creates an image of a source: a directory with a root file system, a tar archive of one,
// or a raw disk.
func (c Client) Import(ctx context.Context, imp Import, source string) (img Image, err error) {
	dir, err := os.MkdirTemp("", "loopcloud-import-*")
	if err != nil {
		return Image{}, fmt.Errorf("cannot import an image: %w", err)
	}
	defer func() { err = errors.Join(err, remove.All(dir)) }()
	disk := filepath.Join(dir, "disk")
	if err := volume.Import(ctx, source, disk, volume.ImportOptions{SizeGiB: imp.SizeGiB}); err != nil {
		return Image{}, err
	}
	f, err := os.Open(disk)
	if err != nil {
		return Image{}, fmt.Errorf("cannot import an image: %w", err)
	}
	defer f.Close()
	r, w := io.Pipe()
	go func() { w.CloseWithError(WriteDisk(w, f)) }()
	err = c.call(ctx, http.MethodPost, "images?"+imp.Query().Encode(), r, decodeJSON(&img))
	r.CloseWithError(errors.New("the import has ended"))
	return img, err
}

// Export writes the disk of an image's root volume into a file, as a sparse raw disk. It replaces
// an existing file after the whole disk has been received.
func (c Client) Export(ctx context.Context, id, file string) error {
	if info, err := os.Stat(file); err == nil && !info.Mode().IsRegular() {
		return fmt.Errorf("cannot export image %s: %s exists and is not a regular file", id, file)
	}
	f, err := os.CreateTemp(filepath.Dir(file), ".export-*")
	if err != nil {
		return fmt.Errorf("cannot export image %s: %w", id, err)
	}
	defer os.Remove(f.Name()) // does nothing after the rename
	defer f.Close()
	read := func(body io.Reader) error { return ReadDisk(body, f) }
	if err := c.call(ctx, http.MethodGet, "images/"+url.PathEscape(id)+"/disk", nil, read); err != nil {
		return err
	}
	err = errors.Join(f.Chmod(0o644), f.Close())
	if err == nil {
		err = os.Rename(f.Name(), file)
	}
	if err != nil {
		return fmt.Errorf("cannot export image %s: %w", id, err)
	}
	return nil
}

func decodeJSON(into any) func(io.Reader) error {
	return func(body io.Reader) error { return json.NewDecoder(body).Decode(into) }
}

// call makes one request and passes the body of a successful response to read.
func (c Client) call(ctx context.Context, method, path string, body io.Reader, read func(io.Reader) error) error {
	address := strings.TrimSuffix(c.Endpoint, "/") + "/_loopcloud/" + path
	req, err := http.NewRequestWithContext(ctx, method, address, body)
	if err != nil {
		return fmt.Errorf("cannot ask loopcloud at %s: %w", c.Endpoint, err)
	}
	req.Header.Set("Authorization", "Bearer "+c.Token)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return fmt.Errorf("cannot ask loopcloud: %w", err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		text, _ := io.ReadAll(io.LimitReader(resp.Body, 4096)) // the part that can be read is reported
		return fmt.Errorf("loopcloud at %s: %s (%s)", c.Endpoint, strings.TrimSpace(string(text)), resp.Status)
	}
	if err := read(resp.Body); err != nil {
		return fmt.Errorf("cannot read the response of loopcloud at %s: %w", c.Endpoint, err)
	}
	return nil
}
