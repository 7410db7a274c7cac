package rendezvous

import (
	"encoding/base64"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// invitation holds the socket that a keeper must connect to, and the secret to send there.
//
// The keeper runs every operation that the process at the socket asks for, with root's
// rights. The plugin may be gone by the time the keeper starts, for sudo may have waited
// for a password, and then another user may have taken the name of the directory. So the
// keeper accepts only a directory that belongs to the user who started it, or to root, and
// only a process of that user at the socket. The secret is visible in the process list. It
// distinguishes this plugin's keeper from that of another build of the user.
type invitation struct {
	dir string
	// uid is the effective user of the plugin.
	uid    uint32
	secret string
}

// newInvitation returns an invitation by this process.
func newInvitation(dir, secret string) (invitation, error) {
	dir, err := filepath.Abs(dir) // a wrapper may change the directory
	return invitation{dir, uint32(os.Geteuid()), secret}, err
}

// arg returns the invitation in letters that no shell and no template of a wrapper can
// misunderstand.
func (i invitation) arg() string {
	return fmt.Sprintf("%s.%d.%s", base64.RawURLEncoding.EncodeToString([]byte(i.dir)), i.uid, i.secret)
}

// errInvitation is the error for an argument that no plugin of this version wrote.
var errInvitation = errors.New("this is not an argument that this version of the plugin starts its keeper with; only the plugin itself can start one")

func readInvitation(arg string) (invitation, error) {
	parts := strings.Split(arg, ".")
	if len(parts) != 3 || parts[2] == "" {
		return invitation{}, errInvitation
	}
	dir, err := base64.RawURLEncoding.DecodeString(parts[0])
	if err != nil || !filepath.IsAbs(string(dir)) {
		return invitation{}, errInvitation
	}
	uid, err := strconv.ParseUint(parts[1], 10, 32)
	if err != nil {
		return invitation{}, errInvitation
	}
	return invitation{string(dir), uint32(uid), parts[2]}, nil
}

// invokers are the variables in which programs that give root's rights name the user who
// started them.
var invokers = []string{"SUDO_UID", "PKEXEC_UID"}

// genuine fails if sudo or pkexec says that another user started this keeper. Root may
// start a keeper directly from a process that sudo started for somebody else.
func (i invitation) genuine() error {
	for _, name := range invokers {
		uid := os.Getenv(name)
		if i.uid != 0 && uid != "" && uid != strconv.FormatUint(uint64(i.uid), 10) {
			return fmt.Errorf("%s is %s, and the invitation is of user %d", name, uid, i.uid)
		}
	}
	return nil
}

// withoutInvoker returns an environment for a wrapper, in which only the wrapper itself
// names the user who started it.
func withoutInvoker(env []string) []string {
	if os.Geteuid() == 0 {
		return env
	}
	var rest []string
	for _, entry := range env {
		if name, _, _ := strings.Cut(entry, "="); name != invokers[0] && name != invokers[1] {
			rest = append(rest, entry)
		}
	}
	return rest
}
