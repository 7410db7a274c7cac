package oapi

import (
	"encoding/json"
	"errors"
	"testing"
)

// FuzzDecode: every body is decoded, or refused with an API error. A decoded request decodes
// again from its own JSON.
func FuzzDecode(f *testing.F) {
	for _, seed := range []string{
		"", "{}", "null", "[", `{"ImageName":"x","BlockDeviceMappings":[{"DeviceName":"/dev/sda1","Bsu":{"VolumeSize":8}}]}`,
		`{"BlockDeviceMappings":[{}]}`, `{"BootModes":["uefi"],"TpmMandatory":true}`, `{"ImageName":1}`, `{"ImageName":null}`,
		`{"BlockDeviceMappings":[{"DeviceName":"/dev/sda1","Bsu":{"SnapshotId":"snap-12345678","Iops":null}}],"BootModes":null}`,
		`{"BlockDeviceMappings":{"DeviceName":"x"}}`, `{"DryRun":true,"Nothing":{}}`, `{"ImageName":"\ud800"}`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		var p createImageRequest
		if err := decode(body, &p); err != nil {
			var refused *apiError
			if !errors.As(err, &refused) || refused.Status != 400 || refused.Details == "" {
				t.Fatalf("the error is %v", err)
			}
			return
		}
		text, err := json.Marshal(p.Mappings)
		if err != nil {
			t.Fatal(err)
		}
		if p.Mappings == nil {
			return
		}
		var again createImageRequest
		if err := decode([]byte(`{"BlockDeviceMappings":`+string(text)+`}`), &again); err != nil {
			t.Fatalf("%s: %v", text, err)
		}
	})
}

// FuzzFilters: every filter selects resources or is refused.
func FuzzFilters(f *testing.F) {
	for _, seed := range []string{
		`{}`, `{"VolumeIds":["vol-12345678"]}`, `{"VolumeSizes":[1,2]}`, `{"LinkVolumeDeleteOnVmDeletion":true}`,
		`{"CreationDates":["2026-07-01"]}`, `{"Tags":["a=b"]}`, `{"VolumeIds":null}`, `{"":[]}`,
	} {
		f.Add([]byte(seed))
	}
	things := []volumeView{{VolumeID: "vol-12345678", Size: 1, CreationDate: "2026-07-01T00:00:00.000Z", Tags: []tag{{"a", "b"}}}}
	f.Fuzz(func(t *testing.T, raw []byte) {
		var given filters
		if json.Unmarshal(raw, &given) != nil {
			return
		}
		got, err := selectBy(given, volumeFilters, things)
		var refused *apiError
		if err != nil && !errors.As(err, &refused) {
			t.Fatalf("the error is %v", err)
		}
		if err == nil && len(given) == 0 && len(got) != len(things) {
			t.Fatal("no filter selects everything")
		}
	})
}
