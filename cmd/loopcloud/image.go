//go:build linux

package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"net/url"
	"os"
	"os/signal"
	"syscall"
	"text/tabwriter"
	"time"

	"github.com/packer-chroot/packer-plugin-chroot/loopcloud"
)

// images accesses a cloud's images, in a directory or of a running loopcloud.
type images interface {
	Images(context.Context) ([]loopcloud.Image, error)
	Import(context.Context, loopcloud.Import, string) (loopcloud.Image, error)
	Export(ctx context.Context, id, file string) error
}

// tokenVariable is the environment variable that holds the control token.
const tokenVariable = "LOOPCLOUD_TOKEN"

// location is a directory with a cloud, or a running loopcloud and its token file. The directory
// of a running loopcloud is only searched for the control token.
type location struct{ dir, endpoint, tokenFile string }

func (at *location) register(fs *flag.FlagSet) {
	fs.StringVar(&at.dir, "dir", "", "")
	fs.StringVar(&at.endpoint, "endpoint", "", "")
	fs.StringVar(&at.tokenFile, "token-file", "", "")
}

func (at location) check(command string) error {
	switch {
	case at.dir == "" && at.endpoint == "":
		return misused("%s: --dir or --endpoint is needed", command)
	case at.endpoint == "" && at.tokenFile != "":
		return misused("%s: --token-file goes with --endpoint", command)
	case at.dir != "" && at.tokenFile != "":
		return misused("%s: --endpoint takes the token from --dir or from --token-file, not from both", command)
	case at.endpoint == "":
		return nil
	}
	if u, err := url.Parse(at.endpoint); err != nil || u.Scheme != "http" || u.Host == "" {
		return misused("%s: --endpoint %q is not like http://127.0.0.1:4600", command, at.endpoint)
	}
	return nil
}

// change calls a function with the images of a location, and creates the directory and a new
// cloud if needed. The directory is open meanwhile.
func (at location) change(region, account string, do func(images) error) error {
	return at.with(loopcloud.Options{Dir: at.dir, Region: region, Account: account}, do)
}

// read is like change, but requires an existing cloud.
func (at location) read(do func(images) error) error {
	return at.with(loopcloud.Options{Dir: at.dir, Existing: true}, do)
}

func (at location) with(o loopcloud.Options, do func(images) error) error {
	if at.endpoint != "" {
		token, err := at.token()
		if err != nil {
			return err
		}
		return do(loopcloud.Client{Endpoint: at.endpoint, Token: token})
	}
	s, err := loopcloud.New(o)
	if err != nil {
		return err
	}
	return errors.Join(do(s), s.Close())
}

// token returns the control token of a running loopcloud.
func (at location) token() (string, error) {
	switch token := os.Getenv(tokenVariable); {
	case at.tokenFile != "":
		return loopcloud.ReadToken(at.tokenFile)
	case at.dir != "":
		return loopcloud.ReadToken(loopcloud.TokenFile(at.dir))
	case token != "":
		return token, nil
	}
	return "", fmt.Errorf("loopcloud at %s needs its control token: add --dir (that of loopcloud serve) or --token-file, or set %s", at.endpoint, tokenVariable)
}

func (p *program) image(ctx context.Context, args []string) error {
	ctx, stop := signal.NotifyContext(ctx, syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP)
	defer stop()
	context.AfterFunc(ctx, stop) // a second signal ends the program without cleaning up
	if len(args) == 0 {
		return misused("image: no command: there are import, export, list and boot")
	}
	switch name, rest := args[0], args[1:]; name {
	case "import":
		return p.imageImport(ctx, rest)
	case "export":
		return p.imageExport(ctx, rest)
	case "list":
		return p.imageList(ctx, rest)
	case "boot":
		return p.imageBoot(ctx, rest)
	case "help", "--help", "-help", "-h":
		return flag.ErrHelp
	default:
		return misused("image: there is no command %q: there are import, export, list and boot", name)
	}
}

// imageImport imports an image and prints its ID.
func (p *program) imageImport(ctx context.Context, args []string) error {
	var at location
	fs := newFlags("image import")
	at.register(fs)
	parameters := importParameters(fs)
	rest, err := parseAnywhere(fs, args)
	if err != nil {
		return err
	}
	imp, err := loopcloud.ImportOf(parameters)
	switch {
	case err != nil:
		return misused("%v", err)
	case imp.Name == "":
		return misused("image import: --name is needed")
	case len(rest) != 1:
		return misused("image import: one SOURCE is needed, not %d", len(rest))
	}
	if err := at.check("image import"); err != nil {
		return err
	}
	return at.change(imp.Region, imp.Account, func(all images) error {
		img, err := all.Import(ctx, imp, rest[0])
		if err != nil {
			return err
		}
		_, err = fmt.Fprintln(p.stdout, img.ID)
		return err
	})
}

// importParameters returns the parameters that the flags of an import set.
func importParameters(fs *flag.FlagSet) url.Values {
	parameters := url.Values{}
	for _, name := range []string{"name", "id", "description", "boot-mode", "arch", "size"} {
		fs.Func(name, "", func(value string) error {
			parameters.Set(name, value)
			return nil
		})
	}
	for name, parse := range map[string]func(string) (string, error){"region": parseRegion, "account": parseAccount} {
		fs.Func(name, "", func(value string) error {
			read, err := parse(value)
			parameters.Set(name, read)
			return err
		})
	}
	fs.Func("tag", "", func(value string) error {
		parameters.Add("tag", value)
		return nil
	})
	return parameters
}

// imageExport writes an image's disk into a file.
func (p *program) imageExport(ctx context.Context, args []string) error {
	var at location
	fs := newFlags("image export")
	at.register(fs)
	rest, err := parseAnywhere(fs, args)
	if err != nil {
		return err
	}
	if len(rest) != 2 {
		return misused("image export: an ID and a FILE are needed, not %d arguments", len(rest))
	}
	if err := at.check("image export"); err != nil {
		return err
	}
	return at.read(func(all images) error { return all.Export(ctx, rest[0], rest[1]) })
}

// imageList prints a table, or JSON.
func (p *program) imageList(ctx context.Context, args []string) error {
	var at location
	fs := newFlags("image list")
	at.register(fs)
	asJSON := fs.Bool("json", false, "")
	rest, err := parseAnywhere(fs, args)
	if err != nil {
		return err
	}
	if len(rest) > 0 {
		return misused("image list: %q is no option", rest[0])
	}
	if err := at.check("image list"); err != nil {
		return err
	}
	var list []loopcloud.Image
	err = at.read(func(all images) (err error) {
		list, err = all.Images(ctx)
		return err
	})
	if err != nil {
		return err
	}
	if *asJSON {
		enc := json.NewEncoder(p.stdout)
		enc.SetIndent("", "  ")
		return enc.Encode(list)
	}
	return p.table(list)
}

func (p *program) table(list []loopcloud.Image) error {
	w := tabwriter.NewWriter(p.stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "ID\tNAME\tREGION\tSTATE\tSIZE\tCREATED")
	for _, img := range list {
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%d GiB\t%s\n",
			img.ID, img.Name, img.Region, img.State, img.SizeGiB, img.Created.UTC().Format(time.DateTime))
	}
	return w.Flush()
}
