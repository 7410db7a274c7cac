package query

import (
	"errors"
	"maps"
	"net/http"
	"net/url"
	"reflect"
	"strings"
	"testing"
	"time"
)

// everything has a field of each supported kind.
type everything struct {
	common
	Name    string     `query:"Name,required"`
	Count   int64      `query:"Count"`
	Maybe   *bool      `query:"Maybe"`
	At      time.Time  `query:"At"`
	ID      volumeID   `query:"VolumeId"`
	IDs     []volumeID `query:"OtherId"`
	Words   []string   `query:"Word"`
	Text    *string    `query:"Text"`
	Place   placement  `query:"Placement"`
	Deep    *deep      `query:"Deep"`
	Filters []filter   `query:"Filter"`
}

type common struct {
	DryRun bool `query:"DryRun"`
}

type placement struct {
	Zone string `query:"AvailabilityZone"`
}

type filter struct {
	Name   string   `query:"Name,required"`
	Values []string `query:"Value"`
}

type tag struct {
	Key   string  `query:"Key,required"`
	Value *string `query:"Value"`
}

// volumeID is a value that validates itself.
type volumeID string

func (id volumeID) Check() error {
	if !strings.HasPrefix(string(id), "vol-") {
		return Refuse("InvalidVolumeID.Malformed", "Invalid id: %q", string(id))
	}
	return nil
}

type deep struct {
	Items []tag `query:"Item"`
}

func TestDecode(t *testing.T) {
	yes, empty := true, ""
	for text, want := range map[string]everything{
		"Name=a": {Name: "a"},
		"Name=a&Count=-7&Maybe=TRUE&DryRun=false":                   {Name: "a", Count: -7, Maybe: &yes},
		"Name=a&At=2026-03-04T05:06:07Z":                            {Name: "a", At: time.Date(2026, 3, 4, 5, 6, 7, 0, time.UTC)},
		"Name=a&VolumeId=vol-01234567":                              {Name: "a", ID: "vol-01234567"},
		"Name=a&VolumeId=":                                          {Name: "a"},
		"Name=a&OtherId.2=vol-22222222&OtherId.1=vol-11111111":      {Name: "a", IDs: []volumeID{"vol-11111111", "vol-22222222"}},
		"Name=a&Word.10=j&Word.9=i&Word.100=k":                      {Name: "a", Words: []string{"i", "j", "k"}},
		"Name=a&Text=":                                              {Name: "a", Text: &empty},
		"Name=a&Placement.AvailabilityZone=z":                       {Name: "a", Place: placement{Zone: "z"}},
		"Name=a&Deep.Item.1.Key=k&Deep.Item.1.Value=":               {Name: "a", Deep: &deep{Items: []tag{{Key: "k", Value: &empty}}}},
		"Name=a&Filter.1.Name=n&Filter.1.Value.1=v&Filter.2.Name=m": {Name: "a", Filters: []filter{{Name: "n", Values: []string{"v"}}, {Name: "m"}}},
	} {
		var got everything
		if err := formOf(t, text).Decode(&got); err != nil {
			t.Errorf("%s: %v", text, err)
		} else if clean(&got); !reflect.DeepEqual(got, want) {
			t.Errorf("%s: got %+v, want %+v", text, got, want)
		}
	}
}

// clean sets empty lists to nil for comparison.
func clean(e *everything) {
	for i := range e.Filters {
		if len(e.Filters[i].Values) == 0 {
			e.Filters[i].Values = nil
		}
	}
}

func formOf(t *testing.T, text string) Form {
	t.Helper()
	f, err := form(http.MethodGet, "/?"+text, "")
	if err != nil {
		t.Fatalf("%s: %v", text, err)
	}
	return f
}

func TestDecodeRefuses(t *testing.T) {
	for text, want := range map[string]string{
		"":                          "MissingParameter: The request must contain the parameter Name",
		"Name=":                     "MissingParameter: The request must contain the parameter Name",
		"Name=a&Other=b":            "UnknownParameter: The parameter Other is not recognized",
		"Name=a&B=1&A=1":            "UnknownParameter: The parameter A is not recognized",
		"Name=a&Name.1=b":           "UnknownParameter: The parameter Name.1 is not recognized",
		"Name=a&Word=b":             "UnknownParameter: The parameter Word is not recognized",
		"Name=a&Word.0=b":           "UnknownParameter: The parameter Word.0 is not recognized",
		"Name=a&Word.01=b":          "UnknownParameter: The parameter Word.01 is not recognized",
		"Name=a&Word.-1=b":          "UnknownParameter: The parameter Word.-1 is not recognized",
		"Name=a&Word.member.1=b":    "UnknownParameter: The parameter Word.member.1 is not recognized",
		"Name=a&Placement.Tenancy=": "UnknownParameter: The parameter Placement.Tenancy is not recognized",
		"Name=a&Placement=z":        "UnknownParameter: The parameter Placement is not recognized",
		"Name=a&Filter.1.Value.1=v": "MissingParameter: The request must contain the parameter Filter.1.Name",
		"Name=a&Filter.1.Name=n&Filter.1.Value=v": "UnknownParameter: The parameter Filter.1.Value is not recognized",
		"Name=a&=b":                     "UnknownParameter: The parameter  is not recognized",
		"Name=a&.=b":                    "UnknownParameter: The parameter . is not recognized",
		"Name=a&Count=many":             "InvalidParameterValue: Invalid value 'many' for Count",
		"Name=a&Count=":                 "InvalidParameterValue: Invalid value '' for Count",
		"Name=a&Count=1.5":              "InvalidParameterValue: Invalid value '1.5' for Count",
		"Name=a&DryRun=1":               "InvalidParameterValue: Invalid value '1' for DryRun",
		"Name=a&Maybe=yes":              "InvalidParameterValue: Invalid value 'yes' for Maybe",
		"Name=a&At=tomorrow":            "InvalidParameterValue: Invalid value 'tomorrow' for At",
		"Name=a&VolumeId=ami-01234567":  `InvalidVolumeID.Malformed: Invalid id: "ami-01234567"`,
		"Name=a&OtherId.1=ami-01234567": `InvalidVolumeID.Malformed: Invalid id: "ami-01234567"`,
	} {
		err := formOf(t, text).Decode(new(everything))
		if err == nil || err.Error() != want {
			t.Errorf("%q: got %v, want %s", text, err, want)
		}
	}
}

func FuzzDecode(f *testing.F) {
	for _, seed := range []string{
		"Name=a&Count=1&Filter.1.Name=n&Filter.1.Value.1=v",
		"Name=a&Deep.Item.1.Key=k&OtherId.1=vol-01234567&Maybe=true",
		"Name=a&Word.99999999999999999999=x&..=&Name.=1",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, body string) {
		values, err := form(http.MethodPost, "/", body)
		if err != nil {
			return
		}
		var got everything
		err = maps.Clone(values).Decode(&got)
		var api *Error
		if err != nil && !errors.As(err, &api) {
			t.Errorf("%q: %v is no refusal", body, err)
		}
		if err == nil && got.Name != values["Name"] {
			t.Errorf("%q: the name became %q", body, got.Name)
		}
		if err == nil && len(values) > leaves(reflect.ValueOf(got)) {
			t.Errorf("%q: some of %s was dropped", body, url.QueryEscape(body))
		}
	})
}

// leaves counts the parameters that could have filled a value: the plain fields of structs, and
// the elements of lists.
func leaves(v reflect.Value) int {
	switch {
	case v.Kind() == reflect.Pointer && v.IsNil():
		return 0
	case v.Kind() == reflect.Pointer:
		return leaves(v.Elem())
	case v.Type() == reflect.TypeFor[time.Time]():
		return 1
	case v.Kind() == reflect.Struct:
		n := 0
		for i := range v.NumField() {
			n += leaves(v.Field(i))
		}
		return n
	case v.Kind() == reflect.Slice:
		n := 0
		for i := range v.Len() {
			n += leaves(v.Index(i))
		}
		return n
	}
	return 1
}
