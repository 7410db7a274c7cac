//go:build linux

package loopcloud

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/packer-chroot/packer-plugin-chroot/loopcloud/state"
	"github.com/packer-chroot/packer-plugin-chroot/loopcloud/volume"
	"github.com/packer-chroot/packer-plugin-chroot/remove"
)

const (
	// rootDevice is the root device of imported images. It is valid in both clouds.
	rootDevice = "/dev/sda1"
	// importDigits is the number of digits in the IDs of imported resources. It is valid in both
	// clouds.
	importDigits = 8
)

// errImport is wrapped by the error for an invalid import.
var errImport = errors.New("cannot import an image")

// Import describes the image to create from a disk. All fields but Name have a default.
type Import struct {
	Name, Description string
	// ID is the ID of the image, such as ami-e81d5881. The default is a new ID.
	ID string
	// BootMode is legacy-bios (or legacy, the name at Outscale), uefi or uefi-preferred. The
	// default is no boot mode.
	BootMode string
	// Architecture is i386, x86_64 or arm64. The default is x86_64.
	Architecture string
	// Region defaults to the default region.
	Region string
	// Account is the owner. The default is the first account.
	Account string
	// SizeGiB is the size of volumes of the image. The default is the size of the disk, rounded
	// up.
	SizeGiB int64
	Tags    map[string]string
}

// Image is an image in the control API.
type Image struct {
	ID           string            `json:"id"`
	Name         string            `json:"name"`
	Description  string            `json:"description"`
	State        string            `json:"state"`
	Region       string            `json:"region"`
	Account      string            `json:"account"`
	Architecture string            `json:"architecture"`
	BootMode     string            `json:"boot_mode,omitempty"`
	RootDevice   string            `json:"root_device"`
	SizeGiB      int64             `json:"size_gib"` // of the root volume
	Snapshots    []string          `json:"snapshots"`
	Created      time.Time         `json:"created"`
	Tags         map[string]string `json:"tags"`
}

// Images returns the images of all accounts and regions, oldest first.
func (s *Server) Images(context.Context) ([]Image, error) {
	out := []Image{}
	s.eachScope(func(at state.Caller) {
		for _, img := range s.cloud.Images(at) {
			if img.Account == at.Account {
				out = append(out, imageOf(img))
			}
		}
	})
	slices.SortStableFunc(out, func(a, b Image) int { return a.Created.Compare(b.Created) })
	return out, nil
}

// eachScope calls visit for every region of every account.
func (s *Server) eachScope(visit func(state.Caller)) {
	for _, account := range s.cloud.Accounts() {
		for _, region := range s.cloud.Regions() {
			visit(state.Caller{Account: account.ID, Region: region.Name})
		}
	}
}

func imageOf(img state.Image) Image {
	out := Image{
		ID: img.ID, Name: img.Name, Description: img.Description, State: string(img.State),
		Region: img.Region, Account: img.Account, Architecture: img.Architecture, BootMode: bootModeOf(img.ImageAttributes),
		RootDevice: img.RootDevice, Created: img.Created, Tags: img.Tags, Snapshots: []string{},
	}
	if out.Tags == nil {
		out.Tags = map[string]string{}
	}
	for _, m := range img.Mappings {
		if m.Volume != nil && m.Volume.SnapshotID != "" {
			out.Snapshots = append(out.Snapshots, m.Volume.SnapshotID)
		}
		if m.Volume != nil && m.Device == img.RootDevice {
			out.SizeGiB = m.Volume.SizeGiB
		}
	}
	return out
}

// Import creates an image of a source: a directory with a root file system, a tar archive of one,
// or a raw disk.
func (s *Server) Import(ctx context.Context, imp Import, source string) (_ Image, err error) {
	if err := s.checkImport(imp); err != nil {
		return Image{}, err
	}
	if err := os.MkdirAll(s.tmp, 0o700); err != nil {
		return Image{}, fmt.Errorf("cannot import an image: %w", err)
	}
	dir, err := os.MkdirTemp(s.tmp, "import-*")
	if err != nil {
		return Image{}, fmt.Errorf("cannot import an image: %w", err)
	}
	defer func() { err = errors.Join(err, remove.All(dir)) }()
	disk := filepath.Join(dir, "disk")
	if err := volume.Import(ctx, source, disk, volume.ImportOptions{SizeGiB: imp.SizeGiB}); err != nil {
		return Image{}, err
	}
	return s.importDisk(imp, disk)
}

// importDisk creates an image of the raw disk in a file.
func (s *Server) importDisk(imp Import, disk string) (Image, error) {
	at := s.importScope(imp)
	snapshot, err := s.cloud.ImportSnapshot(at, state.SnapshotImport{
		File: disk, SizeGiB: imp.SizeGiB, Description: "Imported for " + imp.Name, IDDigits: importDigits,
	})
	if err != nil {
		return Image{}, err
	}
	req := imp.request()
	req.Mappings[0].Volume.SnapshotID = snapshot.ID
	req.Mappings[0].Volume.SizeGiB = snapshot.SizeGiB
	img, err := s.cloud.CreateImage(at, req)
	if err != nil {
		return Image{}, errors.Join(err, s.cloud.DeleteSnapshot(at, snapshot.ID, false))
	}
	return imageOf(img), nil
}

// checkImport returns an error if an import would fail, before a disk is read.
func (s *Server) checkImport(imp Import) error {
	if _, ok := bootModes[imp.BootMode]; !ok {
		return fmt.Errorf("%w: there is no boot mode %q; use legacy-bios, uefi or uefi-preferred", errImport, imp.BootMode)
	}
	if !slices.Contains([]string{"", "i386", "x86_64", "arm64"}, imp.Architecture) {
		return fmt.Errorf("%w: there is no architecture %q; use i386, x86_64 or arm64", errImport, imp.Architecture)
	}
	if imp.Account != "" && !slices.ContainsFunc(s.cloud.Accounts(), func(a state.Account) bool { return a.ID == imp.Account }) {
		return fmt.Errorf("%w: there is no account %q", errImport, imp.Account)
	}
	req := imp.request()
	req.DryRun = true
	_, err := s.cloud.CreateImage(s.importScope(imp), req)
	var refusal *state.Error
	if errors.As(err, &refusal) && refusal.Kind == state.DryRun {
		return nil
	}
	return fmt.Errorf("%w: %w", errImport, err)
}

// importScope returns the account and the region of an import.
func (s *Server) importScope(imp Import) state.Caller {
	return state.Caller{
		Account: cmp.Or(imp.Account, s.cloud.Accounts()[0].ID),
		Region:  cmp.Or(imp.Region, s.cloud.DefaultRegion()),
	}
}

// bootMode is a boot mode by its names in both clouds.
type bootMode struct {
	ec2  string
	oapi []string
}

var bootModes = map[string]bootMode{
	"":               {},
	"legacy":         {"legacy-bios", []string{"legacy"}},
	"legacy-bios":    {"legacy-bios", []string{"legacy"}},
	"uefi":           {"uefi", []string{"uefi"}},
	"uefi-preferred": {"uefi-preferred", []string{"legacy", "uefi"}},
}

// bootModeOf returns the boot mode of an image by EC2's name, whichever API created it.
func bootModeOf(a state.ImageAttributes) string {
	if a.BootMode != "" {
		return a.BootMode
	}
	for _, mode := range bootModes {
		if len(mode.oapi) > 0 && slices.Equal(slices.Sorted(slices.Values(a.BootModes)), mode.oapi) {
			return mode.ec2
		}
	}
	return ""
}

func (imp Import) request() state.ImageRequest {
	mode := bootModes[imp.BootMode]
	return state.ImageRequest{
		Name: imp.Name, Description: imp.Description, ID: imp.ID, Tags: imp.Tags, IDDigits: importDigits, Imported: true,
		Attributes: state.ImageAttributes{
			Architecture: imp.Architecture, RootDevice: rootDevice,
			BootMode: mode.ec2, BootModes: mode.oapi,
		},
		Mappings: []state.Mapping{{
			Device: rootDevice,
			Volume: &state.MappedVolume{SizeGiB: max(1, imp.SizeGiB), DeleteOnTermination: true},
		}},
	}
}

// Export writes the disk of an image's root volume into a file, as a sparse raw disk.
func (s *Server) Export(_ context.Context, id, file string) error {
	found := false
	var err error
	s.eachScope(func(at state.Caller) {
		for _, img := range s.cloud.Images(at) {
			if !found && img.ID == id && img.Account == at.Account {
				found, err = true, s.exportRoot(at, img, file)
			}
		}
	})
	if !found {
		return &state.Error{Kind: state.NotFound, Resource: "image", ID: id, Message: "it does not exist"}
	}
	return err
}

func (s *Server) exportRoot(owner state.Caller, img state.Image, file string) error {
	for _, m := range img.Mappings {
		if m.Device != img.RootDevice || m.Volume == nil || m.Volume.SnapshotID == "" {
			continue
		}
		if err := s.cloud.ExportSnapshot(owner, m.Volume.SnapshotID, file); err != nil {
			return fmt.Errorf("cannot export image %s: %w", img.ID, err)
		}
		return nil
	}
	return &state.Error{Kind: state.InvalidValue, Resource: "image", ID: img.ID, Message: "its root volume has no snapshot"}
}
