//go:build linux

package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/packer-chroot/packer-plugin-chroot/loopcloud"
	"github.com/packer-chroot/packer-plugin-chroot/loopcloud/fault"
	"github.com/packer-chroot/packer-plugin-chroot/loopcloud/state"
	"github.com/packer-chroot/packer-plugin-chroot/loopcloud/volume"
)

// ownKey is the default key pair.
var ownKey = state.Key{ID: "AKIALOOPCLOUD0000000", Secret: "loopcloud/not/a/secret/of/any/real/cloud"}

// printedKey is the key pair in the examples of the builders' documentation, which therefore run
// unchanged.
var printedKey = state.Key{ID: "YOUR KEY HERE", Secret: "YOUR SECRET KEY HERE"}

func newFlags(command string) *flag.FlagSet {
	fs := flag.NewFlagSet(command, flag.ContinueOnError)
	fs.SetOutput(io.Discard) // main prints the error
	return fs
}

// parse parses flags up to the first other argument or to --. It returns flag.ErrHelp if they
// request help.
func parse(fs *flag.FlagSet, args []string) ([]string, error) {
	if err := fs.Parse(args); err != nil {
		if errors.Is(err, flag.ErrHelp) {
			return nil, flag.ErrHelp
		}
		return nil, misused("%s: %v", fs.Name(), err)
	}
	return fs.Args(), nil
}

// parseAnywhere also parses flags between and after the other arguments.
func parseAnywhere(fs *flag.FlagSet, args []string) ([]string, error) {
	var others []string
	for {
		rest, err := parse(fs, args)
		if err != nil || len(rest) == 0 {
			return others, err
		}
		if at := len(args) - len(rest); at > 0 && args[at-1] == "--" {
			return append(others, rest...), nil
		}
		others, args = append(others, rest[0]), rest[1:]
	}
}

// cloudFlags are the options of a served cloud.
type cloudFlags struct {
	dir, region string
	regions     []state.Region
	timing      state.Timing
	naming      volume.Naming
	keys        []state.Key
	names       []string
	faults      []fault.Rule
	settings    []loopcloud.Setting
	seed        uint64
	hosts       int
	zone        string
	outpost     string
	hops        int
}

func (c *cloudFlags) register(fs *flag.FlagSet) {
	fs.StringVar(&c.dir, "dir", "", "")
	fs.Func("profile", "", func(s string) (err error) {
		c.timing, err = parseProfile(s)
		return err
	})
	fs.Func("naming", "", func(s string) (err error) {
		c.naming, err = volume.ParseNaming(s)
		return err
	})
	fs.Func("key", "", func(s string) error {
		key, err := parseKey(s)
		c.keys = append(c.keys, key)
		return err
	})
	fs.Func("key-file", "", func(s string) error {
		keys, err := readKeys(s)
		c.keys = append(c.keys, keys...)
		return err
	})
	fs.Func("allow-host", "", func(s string) error {
		if strings.ContainsAny(s, ":/ ") || s == "" {
			return errors.New("a host is a name without a port, such as build-host.example.com")
		}
		c.names = append(c.names, s)
		return nil
	})
	fs.Func("fault", "", func(s string) error {
		rules, err := parseFaults(s)
		c.faults = append(c.faults, rules...)
		return err
	})
	fs.Func("setting", "", func(s string) error {
		settings, err := parseSettings(s)
		c.settings = append(c.settings, settings...)
		return err
	})
	fs.Uint64Var(&c.seed, "seed", 0, "")
	c.registerPlace(fs)
}

// registerPlace registers the flags for the location of the machines.
func (c *cloudFlags) registerPlace(fs *flag.FlagSet) {
	fs.Func("region", "", func(s string) (err error) {
		c.region, err = parseRegion(s)
		return err
	})
	fs.Func("regions", "", func(s string) (err error) {
		c.regions, err = parseRegions(s)
		return err
	})
	c.hosts = 1
	fs.Func("hosts", "", func(s string) (err error) {
		c.hosts, err = parseHosts(s)
		return err
	})
	fs.IntVar(&c.hops, "metadata-hops", 1, "")
	fs.Func("zone", "", func(s string) (err error) {
		c.zone, err = parseZone(s)
		return err
	})
	fs.Func("outpost", "", func(s string) (err error) {
		c.outpost, err = parseOutpost(s)
		return err
	})
}

func (c *cloudFlags) options() loopcloud.Options {
	return loopcloud.Options{
		Dir: c.dir, Region: c.region, Regions: c.regions, Timing: c.timing, Naming: c.naming, Keys: c.keys,
		Faults: c.faults, Settings: c.settings, Seed: c.seed, Hosts: c.hosts, NoHosts: c.hosts == 0, AllowedHosts: c.names,
		HostZone: c.zone, Outpost: c.outpost, MetadataHops: c.hops,
		PublicKeys: slices.ContainsFunc(c.keys, func(k state.Key) bool { return k == ownKey || k == printedKey }),
	}
}

func parseHosts(s string) (int, error) {
	n, err := strconv.Atoi(s)
	if err != nil || n < 0 {
		return 0, errors.New("the number of machines is 0 or more")
	}
	return n, nil
}

var regionNames = regexp.MustCompile(`^[a-z]+(-[a-z]+)+-[0-9]+$`)

func parseRegion(s string) (string, error) {
	if !regionNames.MatchString(s) {
		return "", fmt.Errorf("a region is named like eu-west-2")
	}
	return s, nil
}

var (
	zoneNames = regexp.MustCompile(`^[a-z]+(-[a-z]+)+-[0-9]+(-[a-z]{3}-[0-9]+)?[a-z]$`)
	outposts  = regexp.MustCompile(`^arn:aws[a-z-]*:outposts:[a-z0-9-]+:[0-9]{12}:outpost/op-[0-9a-f]{17}$`)
)

func parseZone(s string) (string, error) {
	if !zoneNames.MatchString(s) {
		return "", errors.New("a zone is named like eu-west-2a, or a Local Zone like us-west-2-lax-1a")
	}
	return s, nil
}

func parseOutpost(s string) (string, error) {
	if !outposts.MatchString(s) {
		return "", errors.New("an Outpost is named by its ARN, like arn:aws:outposts:eu-west-2:123456789012:outpost/op-0123456789abcdef0")
	}
	return s, nil
}

// parseFaults parses one rule or a list of rules, as JSON or, after @, from a file.
func parseFaults(s string) ([]fault.Rule, error) {
	text, err := textOrFile(s)
	if err != nil {
		return nil, fmt.Errorf("cannot read the rules: %w", err)
	}
	return fault.ParseRules(text)
}

// parseSettings parses the settings of accounts, as JSON or, after @, from a file.
func parseSettings(s string) ([]loopcloud.Setting, error) {
	text, err := textOrFile(s)
	if err != nil {
		return nil, fmt.Errorf("cannot read the settings: %w", err)
	}
	return loopcloud.ParseSettings(text)
}

// textOrFile returns the text itself or, after @, the content of the file with that name.
func textOrFile(s string) ([]byte, error) {
	if name, ok := strings.CutPrefix(s, "@"); ok {
		return os.ReadFile(name)
	}
	return []byte(s), nil
}

// parseRegions parses a comma-separated list of regions. A region that no account has opted in to
// has the suffix ":off".
func parseRegions(s string) ([]state.Region, error) {
	var out []state.Region
	for part := range strings.SplitSeq(s, ",") {
		name, off := strings.CutSuffix(part, ":off")
		if _, err := parseRegion(name); err != nil {
			return nil, fmt.Errorf("%w, not %q", err, name)
		}
		if slices.ContainsFunc(out, func(r state.Region) bool { return r.Name == name }) {
			return nil, fmt.Errorf("the region %s is there twice", name)
		}
		region := state.NewRegion(name)
		if off {
			region.OptIn = state.NotOptedIn
		}
		out = append(out, region)
	}
	return out, nil
}

// parseProfile parses a profile and its scale: aws:0.1 takes a tenth of the time.
func parseProfile(s string) (state.Timing, error) {
	name, factor, scaled := strings.Cut(s, ":")
	scale := 1.0
	if scaled {
		var err error
		if scale, err = strconv.ParseFloat(factor, 64); err != nil || !(scale >= 0 && scale <= 1000) {
			return state.Timing{}, fmt.Errorf("the scale %q is not a number from 0 to 1000", factor)
		}
	}
	switch name {
	case "instant":
		return state.Instant(), nil
	case "aws":
		return state.AWS(scale), nil
	case "outscale":
		return state.Outscale(scale), nil
	}
	return state.Timing{}, errors.New("the profiles are instant, aws and outscale")
}

var accountIDs = regexp.MustCompile(`^[0-9]{12}$`)

func parseAccount(s string) (string, error) {
	if !accountIDs.MatchString(s) {
		return "", fmt.Errorf("the account %q does not have twelve digits", s)
	}
	return s, nil
}

// parseKey parses ID:SECRET[:ACCOUNT].
func parseKey(s string) (state.Key, error) {
	parts := strings.Split(s, ":")
	if len(parts) < 2 || len(parts) > 3 || parts[0] == "" || parts[1] == "" {
		return state.Key{}, errors.New("a key is ID:SECRET or ID:SECRET:ACCOUNT")
	}
	key := state.Key{ID: parts[0], Secret: parts[1]}
	var err error
	if len(parts) == 3 {
		if key.Account, err = parseAccount(parts[2]); err != nil {
			err = errors.New("the account of a key has twelve digits") // the text may be a part of the secret
		}
	}
	return key, err
}

// keyVariable is the environment variable that holds further keys.
const keyVariable = "LOOPCLOUD_KEY"

// readKeys reads a file of keys, one on each line. It skips empty lines and lines that begin with
// #. Other users must not be able to read the file.
func readKeys(file string) ([]state.Key, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, fmt.Errorf("cannot read the keys: %w", err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, fmt.Errorf("cannot read the keys: %w", err)
	}
	if mode := info.Mode(); mode.IsRegular() && mode.Perm()&0o077 != 0 {
		return nil, fmt.Errorf("others can read the keys in %s: its mode is %04o, and must be 0600 or 0400", file, mode.Perm())
	}
	text, err := io.ReadAll(io.LimitReader(f, 1<<20))
	if err != nil {
		return nil, fmt.Errorf("cannot read the keys: %w", err)
	}
	keys, err := parseKeys(string(text))
	if err == nil && len(keys) == 0 {
		err = errors.New("it holds no key")
	}
	if err != nil {
		return nil, fmt.Errorf("cannot read the keys in %s: %w", file, err)
	}
	return keys, nil
}

// parseKeys parses keys, one on each line. An error names the line, but not its content.
func parseKeys(text string) ([]state.Key, error) {
	var keys []state.Key
	n := 0
	for line := range strings.Lines(text) {
		n++
		line = strings.TrimSpace(line)
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		key, err := parseKey(line)
		if err != nil {
			return nil, fmt.Errorf("line %d: %w", n, err)
		}
		keys = append(keys, key)
	}
	return keys, nil
}

// addKeysOf adds the keys of the environment, after those of the command line.
func (c *cloudFlags) addKeysOf(env []string) error {
	for _, entry := range env {
		if value, ok := strings.CutPrefix(entry, keyVariable+"="); ok {
			keys, err := parseKeys(value)
			if err != nil {
				return misused("%s: %v", keyVariable, err)
			}
			c.keys = append(c.keys, keys...)
		}
	}
	return nil
}
