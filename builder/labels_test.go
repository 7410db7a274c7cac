package builder_test

import (
	"context"
	"fmt"
	"maps"
	"reflect"
	"strings"
	"testing"

	"github.com/packer-chroot/packer-plugin-chroot/bake"
	"github.com/packer-chroot/packer-plugin-chroot/builder"
)

// labelsOf returns the labels of a build with the options.
func labelsOf(t *testing.T, options map[string]any) (bake.Labels, error) {
	t.Helper()
	return planOf(t, job(t, options)).Labels(facts)
}

func block(key, value string) map[string]any { return map[string]any{"key": key, "value": value} }

// TestTagsOfEachThing checks that the snapshot has the image's tags and its own, which take
// precedence, and that the volume has only its own. Blocks and maps are merged.
func TestTagsOfEachThing(t *testing.T) {
	got, err := labelsOf(t, map[string]any{
		"tags":             map[string]any{"a": "image", "b": "{{.BuildRegion}}"},
		"tag":              []any{block("c", "{{.SourceTMIName}}")},
		"snapshot_tags":    map[string]any{"a": "snapshot"},
		"snapshot_tag":     []any{block("d", "{{.SourceTMITags.Release}}"), block("{{.SourceTMI}}", "e")},
		"root_volume_tags": map[string]any{"f": "volume"},
		"root_volume_tag":  []any{block("g", "{{.BuildRegion}}")},
	})
	want := bake.Labels{
		ImageTags:    map[string]string{"a": "image", "b": "eu-west-2", "c": "debian"},
		SnapshotTags: map[string]string{"a": "snapshot", "b": "eu-west-2", "c": "debian", "d": "12", "ami-1": "e"},
		VolumeTags:   map[string]string{"f": "volume", "g": "eu-west-2"},
	}
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("the labels are %+v, %v; want %+v", got, err, want)
	}
}

// TestTextsOfLabels checks that a later option takes precedence if it is given, that its text is
// rendered, and that the error of a text that the cloud would refuse names its option.
func TestTextsOfLabels(t *testing.T) {
	ofSnapshot := func(text string) builder.LabelText {
		return builder.LabelText{Option: "of_snapshot", Text: text, Set: func(l *bake.Labels, text string) { l.SnapshotDescription = text }}
	}
	usage := func(text string) builder.LabelText {
		return builder.LabelText{Option: "usage", Text: text, Set: func(l *bake.Labels, text string) { l.ImageTags["Usage"] = text }}
	}
	both := builder.Description("both", "in {{.BuildRegion}}")
	for name, test := range map[string]struct {
		texts []builder.LabelText
		want  bake.Labels
		fault string // part of the error, if there is one
	}{
		"none":             {nil, bake.Labels{}, ""},
		"one":              {[]builder.LabelText{both}, bake.Labels{ImageDescription: "in eu-west-2", SnapshotDescription: "in eu-west-2"}, ""},
		"a later one":      {[]builder.LabelText{both, ofSnapshot("{{.SourceTMI}}")}, bake.Labels{ImageDescription: "in eu-west-2", SnapshotDescription: "ami-1"}, ""},
		"a later, empty":   {[]builder.LabelText{both, ofSnapshot("")}, bake.Labels{ImageDescription: "in eu-west-2", SnapshotDescription: "in eu-west-2"}, ""},
		"a tag":            {[]builder.LabelText{usage("{{.SourceTMI}}")}, bake.Labels{ImageTags: map[string]string{"Usage": "ami-1"}}, ""},
		"no tag":           {[]builder.LabelText{usage("")}, bake.Labels{}, ""},
		"long description": {[]builder.LabelText{both, ofSnapshot("{{.SourceTMI}}" + strings.Repeat("x", 40))}, bake.Labels{}, "of_snapshot: the description has 45 characters"},
		"long tag":         {[]builder.LabelText{both, usage("{{.SourceTMI}}" + strings.Repeat("x", 20))}, bake.Labels{}, `usage: tag "Usage"`},
	} {
		t.Run(name, func(t *testing.T) {
			j := job(t, nil)
			j.LabelTexts = test.texts
			got, err := planOf(t, j).Labels(facts)
			if test.fault != "" {
				if err == nil || !strings.Contains(err.Error(), test.fault) {
					t.Errorf("got the error %v, want %q", err, test.fault)
				}
				return
			}
			if err != nil || got.ImageDescription != test.want.ImageDescription || got.SnapshotDescription != test.want.SnapshotDescription ||
				!maps.Equal(got.ImageTags, test.want.ImageTags) || len(got.SnapshotTags) > 0 {
				t.Errorf("the labels are %+v, %v; want %+v", got, err, test.want)
			}
		})
	}
}

// TestLiteralTextsOfLabels checks that a text without a template is checked with the other options.
func TestLiteralTextsOfLabels(t *testing.T) {
	j := job(t, nil)
	j.LabelTexts = []builder.LabelText{
		builder.Description("both", strings.Repeat("x", 41)),
		{Option: "usage", Text: strings.Repeat("x", 21), Set: func(l *bake.Labels, text string) { l.ImageTags["Usage"] = text }},
		builder.Description("other", "{{.Nothing}}"),
	}
	err := builder.Join(j.CheckLabels())
	if err == nil {
		t.Fatal("accepted")
	}
	mustContain(t, err.Error(), "both: the description has 41 characters", `usage: tag "Usage"`, "other", ".Nothing", ".BuildRegion")
}

// TestPrepareTwiceMergesBlocksOnce checks that preparing twice merges the same blocks once.
func TestPrepareTwiceMergesBlocksOnce(t *testing.T) {
	given := map[string]any{"a": "1"}
	for range 2 {
		if _, errs := decode(t, map[string]any{"tags": given, "tag": []any{block("b", "2")}}); errs != nil {
			t.Fatal(errs)
		}
	}
	if len(given) != 1 {
		t.Errorf("the user's map is %v", given)
	}
}

func TestDuplicateTagKeys(t *testing.T) {
	for _, option := range []string{"tag", "snapshot_tag", "root_volume_tag"} {
		for name, give := range map[string]map[string]any{
			"two blocks":        {option: []any{block("a", "1"), block("a", "2")}},
			"block and the map": {option: []any{block("b", "1"), block("a", "2")}, option + "s": map[string]any{"a": "1"}},
		} {
			_, errs := decode(t, give)
			if len(errs) != 1 {
				t.Fatalf("%s: %s: got %q, want one error", option, name, errs)
			}
			mustContain(t, errs[0], option+"[1]", `"a"`)
		}
	}
}

func TestUnknownVariablesInTags(t *testing.T) {
	for _, option := range []string{"tags", "snapshot_tags", "root_volume_tags"} {
		for _, tags := range []map[string]any{{"k": "{{.Nothing}}"}, {"{{.Nothing}}": "v"}} {
			_, errs := decode(t, map[string]any{option: tags})
			if len(errs) != 1 {
				t.Fatalf("%s %v: got %q, want one error", option, tags, errs)
			}
			mustContain(t, errs[0], option, ".Nothing", ".BuildRegion")
		}
	}
}

func TestTagsThatTheCloudWouldRefuse(t *testing.T) {
	// keys that are templates: other keys are refused before the source is known
	many := map[string]any{}
	for i := range 6 {
		many[fmt.Sprint("{{.SourceTMI}}", i)] = ""
	}
	half := map[string]any{"x{{.SourceTMI}}": "", "y{{.SourceTMI}}": "", "z{{.SourceTMI}}": ""}
	for name, test := range map[string]struct {
		give map[string]any
		want []string
	}{
		"too many":              {map[string]any{"tags": many}, []string{"the image", "6 tags", "5"}},
		"too many together":     {map[string]any{"tags": map[string]any{"a": "", "b": "", "c": ""}, "snapshot_tags": half}, []string{"its snapshots", "6 tags"}},
		"too many of a volume":  {map[string]any{"root_volume_tags": many}, []string{"the volume", "7 tags"}},
		"too many of the build": {map[string]any{"root_volume_tags": map[string]any{"a{{.SourceTMI}}": "", "b": "", "x": "", "y": "", "z": ""}}, []string{"the volume", "the build's own tag", "6 tags", "5"}},
		"reserved of a volume":  {map[string]any{"root_volume_tags": map[string]any{"test:{{.SourceTMI}}": ""}}, []string{"test:ami-1"}},
		"long of a snapshot":    {map[string]any{"snapshot_tags": map[string]any{"k": "{{.SourceTMIName}} {{.SourceTMIName}} {{.SourceTMIName}} {{.SourceTMIName}}"}}, []string{`"k"`, "20"}},
		"one key for two":       {map[string]any{"tags": map[string]any{"{{.SourceTMI}}": "", "ami-1": ""}}, []string{"tags", `"ami-1"`}},
		"a long description":    {map[string]any{"description": "{{.SourceTMI}}" + strings.Repeat("x", 40)}, []string{"description: the description has 45 characters, but may have 40"}},
		"one key for two there": {map[string]any{"root_volume_tags": map[string]any{"{{.SourceTMI}}": "", "ami-1": ""}}, []string{"root_volume_tags", `"ami-1"`}},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := labelsOf(t, test.give)
			if err == nil {
				t.Fatal("accepted")
			}
			mustContain(t, err.Error(), test.want...)
		})
	}
}

// TestMissingTagsWarn checks that a tag that the source lacks is rendered as an empty string,
// with a warning.
func TestMissingTagsWarn(t *testing.T) {
	for name, test := range map[string]struct {
		give map[string]any
		want string // empty for no warning
	}{
		"there":          {map[string]any{"tags": map[string]any{"a": "{{.SourceTMITags.Release}}"}}, ""},
		"not there":      {map[string]any{"tags": map[string]any{"a": "{{.SourceTMITags.release}}"}}, `tags "a" speaks of .SourceTMITags.release, but source image ami-1 has no tag "release"`},
		"by index":       {map[string]any{"root_volume_tags": map[string]any{"a": "{{index .SourceTMITags \"a b\"}}"}}, `root_volume_tags "a" speaks of .SourceTMITags.a b`},
		"by index there": {map[string]any{"root_volume_tags": map[string]any{"a": "{{index .SourceTMITags \"Release\"}}"}}, ""},
		"a key":          {map[string]any{"snapshot_tag": []any{block("x{{$.SourceTMITags.Name}}", "b")}}, `snapshot_tags "x{{$.SourceTMITags.Name}}" speaks of .SourceTMITags.Name`},
		"description":    {map[string]any{"description": "{{if true}}{{.SourceTMITags.Name | upper}}{{end}}"}, `description speaks of .SourceTMITags.Name`},
		"something else": {map[string]any{"description": "{{.SourceTMIName}}"}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			ui := &screen{}
			_, err := build(t.Context(), t, ui, noProvisioner, job(t, test.give), func(_ context.Context, plan bake.Plan, _ bake.Reporter) error {
				_, err := plan.Labels(facts)
				return err
			})
			if err != nil {
				t.Fatal(err)
			}
			if said := strings.Join(ui.lines, "\n"); (test.want == "") == strings.Contains(said, "Warning") || !strings.Contains(said, test.want) {
				t.Errorf("the build says\n%s\nwant %q", said, test.want)
			}
		})
	}
}
