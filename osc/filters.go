package osc

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"unicode"

	api "github.com/outscale/osc-sdk-go/v3/pkg/osc"
)

// setFilter gives a filter of ReadImages the value that the user wrote.
type setFilter func(f *api.FiltersImage, text string) error

// texts is a filter that is a list of strings.
func texts[T ~string](of func(*api.FiltersImage) **[]T) setFilter {
	return func(f *api.FiltersImage, text string) error {
		*of(f) = &[]T{T(text)}
		return nil
	}
}

// flag is a filter that is true or false.
func flag(of func(*api.FiltersImage) **bool) setFilter {
	return func(f *api.FiltersImage, text string) error {
		b, err := strconv.ParseBool(text)
		if err != nil {
			return errors.New("it must be true or false")
		}
		*of(f) = &b
		return nil
	}
}

// numbers is a filter that is a list of whole numbers.
func numbers(of func(*api.FiltersImage) **[]int) setFilter {
	return func(f *api.FiltersImage, text string) error {
		n, err := strconv.Atoi(text)
		if err != nil {
			return errors.New("it must be a whole number")
		}
		*of(f) = &[]int{n}
		return nil
	}
}

// imageFilters are the filters of ReadImages, by the API's names.
// Source: https://docs.outscale.com/api.html#readimages
var imageFilters = map[string]setFilter{
	"AccountAliases":                       texts(func(f *api.FiltersImage) **[]string { return &f.AccountAliases }),
	"AccountIds":                           texts(func(f *api.FiltersImage) **[]string { return &f.AccountIds }),
	"Architectures":                        texts(func(f *api.FiltersImage) **[]string { return &f.Architectures }),
	"BlockDeviceMappingDeleteOnVmDeletion": flag(func(f *api.FiltersImage) **bool { return &f.BlockDeviceMappingDeleteOnVmDeletion }),
	"BlockDeviceMappingDeviceNames":        texts(func(f *api.FiltersImage) **[]string { return &f.BlockDeviceMappingDeviceNames }),
	"BlockDeviceMappingSnapshotIds":        texts(func(f *api.FiltersImage) **[]string { return &f.BlockDeviceMappingSnapshotIds }),
	"BlockDeviceMappingVolumeSizes":        numbers(func(f *api.FiltersImage) **[]int { return &f.BlockDeviceMappingVolumeSizes }),
	"BlockDeviceMappingVolumeTypes":        texts(func(f *api.FiltersImage) **[]api.VolumeType { return &f.BlockDeviceMappingVolumeTypes }),
	"BootModes":                            texts(func(f *api.FiltersImage) **[]api.BootMode { return &f.BootModes }),
	"Descriptions":                         texts(func(f *api.FiltersImage) **[]string { return &f.Descriptions }),
	"FileLocations":                        texts(func(f *api.FiltersImage) **[]string { return &f.FileLocations }),
	"Hypervisors":                          texts(func(f *api.FiltersImage) **[]string { return &f.Hypervisors }),
	"ImageIds":                             texts(func(f *api.FiltersImage) **[]string { return &f.ImageIds }),
	"ImageNames":                           texts(func(f *api.FiltersImage) **[]string { return &f.ImageNames }),
	"PermissionsToLaunchAccountIds":        texts(func(f *api.FiltersImage) **[]string { return &f.PermissionsToLaunchAccountIds }),
	"PermissionsToLaunchGlobalPermission":  flag(func(f *api.FiltersImage) **bool { return &f.PermissionsToLaunchGlobalPermission }),
	"ProductCodeNames":                     texts(func(f *api.FiltersImage) **[]string { return &f.ProductCodeNames }),
	"ProductCodes":                         texts(func(f *api.FiltersImage) **[]string { return &f.ProductCodes }),
	"RootDeviceNames":                      texts(func(f *api.FiltersImage) **[]string { return &f.RootDeviceNames }),
	"RootDeviceTypes":                      texts(func(f *api.FiltersImage) **[]string { return &f.RootDeviceTypes }),
	"SecureBoot":                           flag(func(f *api.FiltersImage) **bool { return &f.SecureBoot }),
	"States":                               texts(func(f *api.FiltersImage) **[]api.ImageState { return &f.States }),
	"TagKeys":                              texts(func(f *api.FiltersImage) **[]string { return &f.TagKeys }),
	"Tags":                                 texts(func(f *api.FiltersImage) **[]string { return &f.Tags }),
	"TagValues":                            texts(func(f *api.FiltersImage) **[]string { return &f.TagValues }),
	"TpmMandatory":                         flag(func(f *api.FiltersImage) **bool { return &f.TpmMandatory }),
	"VirtualizationTypes":                  texts(func(f *api.FiltersImage) **[]string { return &f.VirtualizationTypes }),
}

// filterNames are all spellings that a filter may have: the API's, the same with
// dashes in the singular or the plural (image-name), and those of EC2's that say
// it otherwise.
var filterNames = func() map[string]string {
	names := map[string]string{
		"name": "ImageNames", "ownerid": "AccountIds", "owneralias": "AccountAliases",
		"ispublic": "PermissionsToLaunchGlobalPermission",
	}
	for name := range imageFilters {
		names[letters(name)] = name
		names[letters(singular(name))] = name
	}
	return names
}()

// letters are those of a name, in lower case.
func letters(name string) string {
	return strings.Map(func(r rune) rune {
		if strings.ContainsRune("-_.", r) {
			return -1
		}
		return unicode.ToLower(r)
	}, name)
}

func singular(name string) string {
	if alias, ok := strings.CutSuffix(name, "Aliases"); ok {
		return alias + "Alias"
	}
	return strings.TrimSuffix(name, "s")
}

// kebab is the name of a filter as the builder's page spells them: image-name.
func kebab(name string) string {
	var b strings.Builder
	for i, r := range singular(name) {
		if unicode.IsUpper(r) && i > 0 {
			b.WriteByte('-')
		}
		b.WriteRune(unicode.ToLower(r))
	}
	return b.String()
}

// tagFilter is how a filter for one tag begins: tag:Release.
const tagFilter = "tag:"

// imageFilter is the request's form of the user's filters. Of several tags it has
// one, for the API takes any of a list, and the user means all: see tagged.
func imageFilter(filters map[string]string) (api.FiltersImage, error) {
	var (
		f    api.FiltersImage
		errs []error
		from = map[string]string{}
	)
	for _, name := range slices.Sorted(maps.Keys(filters)) {
		if key, ok := strings.CutPrefix(name, tagFilter); ok {
			f.Tags = &[]string{key + "=" + filters[name]}
			continue
		}
		known, ok := filterNames[letters(name)]
		switch {
		case !ok:
			errs = append(errs, fmt.Errorf("source_omi_filter: filters has %q, which ReadImages does not know; it knows %s and tag:KEY",
				name, strings.Join(knownFilters(), ", ")))
			continue
		case from[known] != "":
			errs = append(errs, fmt.Errorf("source_omi_filter: filters has %s and %s, which are the same filter", from[known], name))
		}
		from[known] = name
		if err := imageFilters[known](&f, filters[name]); err != nil {
			errs = append(errs, fmt.Errorf("source_omi_filter: filters has %s with %q: %w", name, filters[name], err))
		}
	}
	if from["Tags"] != "" && slices.ContainsFunc(slices.Collect(maps.Keys(filters)), isTagFilter) {
		errs = append(errs, fmt.Errorf("source_omi_filter: filters has %s and %sKEY: use only %sKEY", from["Tags"], tagFilter, tagFilter))
	}
	return f, errors.Join(errs...)
}

func isTagFilter(name string) bool { return strings.HasPrefix(name, tagFilter) }

// tagged reports whether an image has all the tags that the filters want.
func tagged(i api.Image, filters map[string]string) bool {
	have := tagsOf(i.Tags)
	for name, want := range filters {
		if key, ok := strings.CutPrefix(name, tagFilter); ok && have[key] != want {
			return false
		}
	}
	return true
}

// knownFilters are the names of the filters, as the builder's page spells them.
func knownFilters() []string {
	var names []string
	for name := range imageFilters {
		names = append(names, kebab(name))
	}
	slices.Sort(names)
	return names
}
