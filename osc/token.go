package osc

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"

	"github.com/packer-chroot/packer-plugin-chroot/bake"
)

// The kinds of things that are created with a client token.
const (
	tokenVolume   = "volume"
	tokenSnapshot = "snapshot"
)

// tokensOfBuild is how many things of a kind a build is looked for. It makes one.
const tokensOfBuild = 4

// clientToken names a creating call by the build, the kind of thing, and the how
// many-eth specification it is of that kind. So the same call gets the same token,
// another one another, and another process can tell which tokens a build used.
func (c *Cloud) clientToken(build bake.BuildID, kind string, spec any) string {
	c.mu.Lock()
	defer c.mu.Unlock()
	of, said := kind+" "+string(build), fmt.Sprintf("%+v", spec)
	at := slices.Index(c.asked[of], said)
	if at < 0 {
		at = len(c.asked[of])
		c.asked[of] = append(c.asked[of], said)
	}
	return token(build, kind, at)
}

// remember lets Volume recognize the volumes of a build, possibly of another process.
func (c *Cloud) remember(build bake.BuildID, kind string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	of := kind + " " + string(build)
	c.asked[of] = append([]string{}, c.asked[of]...)
}

// buildsOf are the builds that this Cloud was asked about a kind of resources of.
func (c *Cloud) buildsOf(kind string) []bake.BuildID {
	c.mu.Lock()
	defer c.mu.Unlock()
	var builds []bake.BuildID
	for of := range c.asked {
		if build, ok := strings.CutPrefix(of, kind+" "); ok {
			builds = append(builds, bake.BuildID(build))
		}
	}
	return builds
}

// buildTokens are the tokens of the things of a kind that a build may have asked for.
func buildTokens(build bake.BuildID, kind string) []string {
	var tokens []string
	for n := range tokensOfBuild {
		tokens = append(tokens, token(build, kind, n))
	}
	return tokens
}

// token is made of the build's digest, because a token may have 64 characters.
func token(build bake.BuildID, kind string, n int) string {
	sum := sha256.Sum256([]byte(build))
	return fmt.Sprintf("packer-chroot-%s-%s-%d", hex.EncodeToString(sum[:8]), kind, n)
}
