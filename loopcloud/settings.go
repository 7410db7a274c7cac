//go:build linux

package loopcloud

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"reflect"
	"slices"

	"github.com/packer-chroot/packer-plugin-chroot/loopcloud/state"
)

// Setting holds the settings of an account in a region. An empty account or region stands for
// all.
type Setting struct {
	Account string `json:"account,omitempty"`
	Region  string `json:"region,omitempty"`
	state.Settings
	// text is the JSON text. Settings that it does not contain stay as they are.
	text []byte
}

// UnmarshalJSON decodes a setting. It returns an error for unknown fields.
func (s *Setting) UnmarshalJSON(text []byte) error {
	type plain Setting
	dec := json.NewDecoder(bytes.NewReader(text))
	dec.DisallowUnknownFields()
	if err := dec.Decode((*plain)(s)); err != nil {
		return err
	}
	s.text = bytes.Clone(text)
	return nil
}

// ParseSettings parses one setting or a list of settings.
func ParseSettings(text []byte) ([]Setting, error) {
	var many []Setting
	var one Setting
	if err := json.Unmarshal(text, &many); err == nil {
		return many, nil
	} else if bytes.HasPrefix(bytes.TrimSpace(text), []byte("[")) {
		return nil, fmt.Errorf("not a list of settings: %w", err)
	}
	if err := json.Unmarshal(text, &one); err != nil {
		return nil, fmt.Errorf("not a setting: %w", err)
	}
	return []Setting{one}, nil
}

// Set changes the settings of accounts, in the given order.
func (s *Server) Set(settings ...Setting) error {
	for _, setting := range settings {
		places := slices.DeleteFunc(s.scopes(), func(at state.Caller) bool { return !setting.isFor(at) })
		if len(places) == 0 {
			return fmt.Errorf("%w: there is no account %q or region %q", errSetting, setting.Account, setting.Region)
		}
		for _, at := range places {
			if err := s.setAt(at, setting); err != nil {
				return fmt.Errorf("cannot change the settings of account %s in %s: %w", at.Account, at.Region, err)
			}
		}
	}
	return nil
}

func (s Setting) isFor(at state.Caller) bool {
	return (s.Account == "" || s.Account == at.Account) && (s.Region == "" || s.Region == at.Region)
}

// errSetting is wrapped by the error for an invalid setting.
var errSetting = errors.New("cannot change the settings")

func (s *Server) setAt(at state.Caller, setting Setting) error {
	_, err := s.cloud.ChangeSettings(at, func(now *state.Settings) error {
		changed := Setting{Settings: *now}
		if err := json.Unmarshal(setting.text, &changed); err != nil {
			return err
		}
		*now = changed.Settings
		return nil
	}, false)
	return err
}

// scopes returns all regions of all accounts.
func (s *Server) scopes() []state.Caller {
	var all []state.Caller
	for _, account := range s.cloud.Accounts() {
		for _, region := range s.cloud.Regions() {
			all = append(all, state.Caller{Account: account.ID, Region: region.Name})
		}
	}
	return all
}

// Settings returns the settings that differ from the defaults.
func (s *Server) Settings() []Setting {
	all := []Setting{}
	for _, at := range s.scopes() {
		now := s.cloud.Settings(at)
		if !reflect.DeepEqual(now, state.DefaultSettings()) {
			all = append(all, Setting{Account: at.Account, Region: at.Region, Settings: now})
		}
	}
	return all
}

// setSettings changes the settings that the body contains.
func (s *Server) setSettings(w http.ResponseWriter, r *http.Request) {
	text, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
	if err != nil {
		http.Error(w, err.Error(), http.StatusRequestEntityTooLarge)
		return
	}
	settings, err := ParseSettings(text)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	if err := s.Set(settings...); err != nil {
		refuse(w, err)
		return
	}
	w.WriteHeader(http.StatusNoContent)
}
