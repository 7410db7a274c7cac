package state

import (
	"encoding/json"
	"testing"
)

// FuzzDecode: every state.json is refused, or is a state that can be read and saved again.
func FuzzDecode(f *testing.F) {
	f.Add([]byte(`{"Version":1,"Volumes":{"vol-01234567":{"ID":"vol-01234567","Link":{"VMID":"i-1"},"Change":{}}}}`))
	f.Add([]byte(`{"Version":1,"Images":{"ami-1":{"ID":"ami-1","Mappings":[{"volume":null}]}},"Tokens":{"a":{}}}`))
	f.Add([]byte(`{"Version":2}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		db, err := decode(text)
		if err != nil {
			return
		}
		for _, r := range db.Volumes {
			r.view(r.Created)
		}
		for _, r := range db.Images {
			r.view(r.Created)
		}
		again, err := json.Marshal(&db)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := decode(again); err != nil {
			t.Fatalf("what was saved is refused: %v", err)
		}
	})
}
