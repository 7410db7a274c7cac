//go:build linux

package loopcloud

import (
	"crypto/rand"
	"crypto/subtle"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"

	"github.com/packer-chroot/packer-plugin-chroot/safedir"
)

const (
	tokenName = "token"
	// tokenBytes is the length of the random token. The file has it as hexadecimal digits.
	tokenBytes = 32
)

// TokenFile returns the name of the file that holds the control token of the cloud in a
// directory.
func TokenFile(dir string) string { return filepath.Join(dir, tokenName) }

// ReadToken reads a control token from a file.
func ReadToken(file string) (string, error) {
	f, err := os.Open(file)
	if err != nil {
		return "", fmt.Errorf("cannot read the control token: %w", err)
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, 4096))
	if err != nil {
		return "", fmt.Errorf("cannot read the control token: %w", err)
	}
	token := strings.TrimSpace(string(text))
	if token == "" || strings.ContainsFunc(token, func(c rune) bool { return c <= ' ' || c > '~' }) {
		return "", fmt.Errorf("cannot read the control token: %s does not hold one", file)
	}
	return token, nil
}

// tokenIn returns the control token of a cloud's directory. It creates a new one if there is
// none, or if other users could read it.
func tokenIn(dir *safedir.Dir) (string, error) {
	f, err := dir.OpenFile(tokenName, os.O_RDONLY, 0)
	if err == nil {
		defer f.Close()
		info, err := f.Stat()
		if err != nil {
			return "", err
		}
		text, err := io.ReadAll(io.LimitReader(f, 4096))
		token := strings.TrimSpace(string(text))
		if raw, decodeErr := hex.DecodeString(token); err != nil || decodeErr == nil && len(raw) == tokenBytes && info.Mode().Perm()&0o077 == 0 {
			return token, err
		}
	} else if !errors.Is(err, os.ErrNotExist) {
		return "", err
	}
	return newToken(dir)
}

// newToken replaces the token atomically.
func newToken(dir *safedir.Dir) (token string, err error) {
	raw := make([]byte, tokenBytes)
	rand.Read(raw) // never fails: crypto/rand ends the program instead
	token = hex.EncodeToString(raw)
	name := tokenName + ".new"
	if err := dir.Remove(name); err != nil && !errors.Is(err, os.ErrNotExist) {
		return "", err
	}
	f, err := dir.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return "", err
	}
	_, err = f.WriteString(token + "\n")
	if err := errors.Join(err, f.Close()); err != nil {
		return "", err
	}
	return token, dir.Rename(name, tokenName)
}

// withToken refuses requests without the control token.
func (s *Server) withToken(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		scheme, given, _ := strings.Cut(r.Header.Get("Authorization"), " ")
		if !strings.EqualFold(scheme, "Bearer") || subtle.ConstantTimeCompare([]byte(strings.TrimSpace(given)), []byte(s.token)) != 1 {
			w.Header().Set("WWW-Authenticate", `Bearer realm="loopcloud"`)
			http.Error(w, "the control API of loopcloud needs the header Authorization: Bearer TOKEN, with the token from the file "+
				tokenName+" in loopcloud's --dir", http.StatusUnauthorized)
			return
		}
		next.ServeHTTP(w, r)
	})
}
