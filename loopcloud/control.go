//go:build linux

package loopcloud

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/packer-chroot/packer-plugin-chroot/loopcloud/fault"
	"github.com/packer-chroot/packer-plugin-chroot/loopcloud/state"
)

// control returns the handler of the control API. Everything but health needs the control token.
func (s *Server) control() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /_loopcloud/calls", func(w http.ResponseWriter, _ *http.Request) { writeJSON(w, s.calls.List()) })
	mux.HandleFunc("DELETE /_loopcloud/calls", func(w http.ResponseWriter, _ *http.Request) {
		s.calls.Clear()
		w.WriteHeader(http.StatusNoContent)
	})
	mux.HandleFunc("GET /_loopcloud/faults", func(w http.ResponseWriter, _ *http.Request) { writeJSON(w, s.rules.List()) })
	mux.HandleFunc("POST /_loopcloud/faults", s.addFaults)
	mux.HandleFunc("DELETE /_loopcloud/faults", func(w http.ResponseWriter, _ *http.Request) {
		s.rules.Clear()
		w.WriteHeader(http.StatusNoContent)
	})
	mux.HandleFunc("GET /_loopcloud/held", s.listHeld)
	mux.HandleFunc("DELETE /_loopcloud/held", func(w http.ResponseWriter, _ *http.Request) {
		s.holds.ReleaseAll()
		w.WriteHeader(http.StatusNoContent)
	})
	mux.HandleFunc("DELETE /_loopcloud/held/{n}", s.release)
	mux.HandleFunc("GET /_loopcloud/clock", func(w http.ResponseWriter, _ *http.Request) { writeJSON(w, s.clocks()) })
	mux.HandleFunc("POST /_loopcloud/clock", s.setClock)
	mux.HandleFunc("DELETE /_loopcloud/clock", func(w http.ResponseWriter, _ *http.Request) {
		s.advanced.set(0)
		s.skew.set(0)
		w.WriteHeader(http.StatusNoContent)
	})
	mux.HandleFunc("GET /_loopcloud/settings", func(w http.ResponseWriter, _ *http.Request) { writeJSON(w, s.Settings()) })
	mux.HandleFunc("POST /_loopcloud/settings", s.setSettings)
	mux.HandleFunc("GET /_loopcloud/images", s.listImages)
	mux.HandleFunc("POST /_loopcloud/images", s.importImage)
	mux.HandleFunc("GET /_loopcloud/images/{id}/disk", s.exportImage)
	all := http.NewServeMux()
	all.HandleFunc("GET /_loopcloud/health", func(w http.ResponseWriter, _ *http.Request) {
		writeJSON(w, map[string]string{"status": "ok"})
	})
	all.Handle("/_loopcloud/", s.withToken(mux))
	return onlyLocal(s.origins.wrap(all, forbid))
}

// onlyLocal refuses requests from other machines.
func onlyLocal(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !isLoopback(r.RemoteAddr) {
			http.Error(w, "the control API of loopcloud accepts requests from its own machine only", http.StatusForbidden)
			return
		}
		next.ServeHTTP(w, r)
	})
}

func isLoopback(address string) bool {
	host, _, err := net.SplitHostPort(address)
	ip := net.ParseIP(host)
	return err == nil && ip != nil && ip.IsLoopback()
}

func writeJSON(w http.ResponseWriter, v any) {
	w.Header().Set("Content-Type", "application/json")
	enc := json.NewEncoder(w)
	enc.SetIndent("", "  ")
	_ = enc.Encode(v) // an error means that the client is gone
}

func (s *Server) addFaults(w http.ResponseWriter, r *http.Request) {
	text, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
	if err != nil {
		http.Error(w, err.Error(), http.StatusRequestEntityTooLarge)
		return
	}
	rules, err := fault.ParseRules(text)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	s.rules.Add(rules...)
	w.WriteHeader(http.StatusNoContent)
}

// longestWait is the longest time that a request waits for a call to be held.
const longestWait = 10 * time.Minute

// listHeld returns the held calls. With wait, it waits until there is one or the time has passed.
func (s *Server) listHeld(w http.ResponseWriter, r *http.Request) {
	text := r.URL.Query().Get("wait")
	if text == "" {
		writeJSON(w, s.holds.List())
		return
	}
	wait, err := time.ParseDuration(text)
	if err != nil || wait < 0 || wait > longestWait {
		http.Error(w, fmt.Sprintf("wait is a duration such as 30s, %s at most, not %q", longestWait, text), http.StatusBadRequest)
		return
	}
	ctx, cancel := s.withEnding(r.Context())
	defer cancel()
	ctx, late := context.WithTimeout(ctx, wait)
	defer late()
	writeJSON(w, s.holds.Await(ctx))
}

// release releases one held call.
func (s *Server) release(w http.ResponseWriter, r *http.Request) {
	n, err := strconv.Atoi(r.PathValue("n"))
	if err != nil || !s.holds.Release(n) {
		http.Error(w, "no call with the number "+r.PathValue("n")+" is held", http.StatusNotFound)
		return
	}
	w.WriteHeader(http.StatusNoContent)
}

func (s *Server) listImages(w http.ResponseWriter, r *http.Request) {
	all, err := s.Images(r.Context())
	if err != nil {
		refuse(w, err)
		return
	}
	writeJSON(w, all)
}

// importImage imports the disk in the body, which it stores in a temporary file.
func (s *Server) importImage(w http.ResponseWriter, r *http.Request) {
	imp, err := ImportOf(r.URL.Query())
	if err == nil {
		err = s.checkImport(imp)
	}
	if err != nil {
		refuse(w, err)
		return
	}
	f, err := s.temporary()
	if err != nil {
		refuse(w, err)
		return
	}
	defer os.Remove(f.Name())
	defer f.Close()
	if err := ReadDisk(r.Body, f); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	img, err := s.importDisk(imp, f.Name())
	if err != nil {
		refuse(w, err)
		return
	}
	writeJSON(w, img)
}

// exportImage writes an image's disk into the response.
func (s *Server) exportImage(w http.ResponseWriter, r *http.Request) {
	f, err := s.temporary()
	if err != nil {
		refuse(w, err)
		return
	}
	defer os.Remove(f.Name())
	defer f.Close()
	if err := s.Export(r.Context(), r.PathValue("id"), f.Name()); err != nil {
		refuse(w, err)
		return
	}
	written, err := os.Open(f.Name()) // an export may replace the file
	if err != nil {
		refuse(w, err)
		return
	}
	defer written.Close()
	w.Header().Set("Content-Type", diskType)
	if err := WriteDisk(w, written); err != nil {
		panic(http.ErrAbortHandler) // an incomplete response must not look complete
	}
}

// refuse responds to a refusal with status 400, and to a fault of loopcloud with 500.
func refuse(w http.ResponseWriter, err error) {
	var refusal *state.Error
	status := http.StatusInternalServerError
	if errors.As(err, &refusal) || errors.Is(err, errImport) || errors.Is(err, errSetting) {
		status = http.StatusBadRequest
	}
	http.Error(w, err.Error(), status)
}

// Query returns the parameters of an import for ImportOf.
func (imp Import) Query() url.Values {
	q := url.Values{}
	for name, value := range map[string]string{
		"name": imp.Name, "id": imp.ID, "description": imp.Description, "boot-mode": imp.BootMode,
		"arch": imp.Architecture, "region": imp.Region, "account": imp.Account,
	} {
		if value != "" {
			q.Set(name, value)
		}
	}
	if imp.SizeGiB != 0 {
		q.Set("size", strconv.FormatInt(imp.SizeGiB, 10))
	}
	for key, value := range imp.Tags {
		q.Add("tag", key+"="+value)
	}
	return q
}

// ImportOf parses the parameters of an import. It returns an error if one is unknown.
func ImportOf(q url.Values) (Import, error) {
	imp := Import{Tags: map[string]string{}}
	for name, values := range q {
		for _, value := range values {
			if err := imp.set(name, value); err != nil {
				return Import{}, err
			}
		}
	}
	return imp, nil
}

func (imp *Import) set(name, value string) error {
	switch name {
	case "name":
		imp.Name = value
	case "id":
		imp.ID = value
	case "description":
		imp.Description = value
	case "boot-mode":
		imp.BootMode = value
	case "arch":
		imp.Architecture = value
	case "region":
		imp.Region = value
	case "account":
		imp.Account = value
	case "size":
		n, err := strconv.ParseInt(value, 10, 32)
		if err != nil || n < 1 {
			return fmt.Errorf("%w: size is a number of GiB, not %q", errImport, value)
		}
		imp.SizeGiB = n
	case "tag":
		key, v, ok := strings.Cut(value, "=")
		if !ok {
			return fmt.Errorf("%w: tag is key=value, not %q", errImport, value)
		}
		imp.Tags[key] = v
	default:
		return fmt.Errorf("%w: there is no parameter %s", errImport, name)
	}
	return nil
}
