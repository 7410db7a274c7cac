package ec2

import (
	"cmp"
	"slices"

	"github.com/packer-chroot/packer-plugin-chroot/loopcloud/query"
	"github.com/packer-chroot/packer-plugin-chroot/loopcloud/state"
)

// optIn returns the opt-in status of a region.
func optIn(r state.Region) string { return cmp.Or(string(r.OptIn), string(state.OptInNotRequired)) }

type describeRegionsInput struct {
	baseInput
	AllRegions bool     `query:"AllRegions"`
	Names      []string `query:"RegionName"`
	Filters    []filter `query:"Filter"`
}

type describeRegionsOutput struct {
	baseResponse
	Regions set[regionItem] `xml:"regionInfo"`
}

type regionItem struct {
	Name     string `xml:"regionName"`
	Endpoint string `xml:"regionEndpoint"`
	OptIn    string `xml:"optInStatus"`
}

// endpoint returns the name of EC2's endpoint in a region. It is not the address of this server.
func endpoint(region string) string { return "ec2." + region + "." + state.Domain(region) }

var regionFilters = attributes[state.Region]{
	"endpoint":      one(func(r state.Region) string { return endpoint(r.Name) }),
	"opt-in-status": one(optIn),
	"region-name":   one(func(r state.Region) string { return r.Name }),
}

func (c *call) describeRegions(in *describeRegionsInput) (*describeRegionsOutput, error) {
	regions := c.st.Regions()
	if in.AllRegions {
		regions = c.st.AllRegions()
	}
	regions, missing := withIDs(regions, in.Names, func(r state.Region) string { return r.Name })
	if len(missing) > 0 {
		return nil, query.Refuse("InvalidParameterValue", "Invalid region names provided: [%s]", missing[0])
	}
	regions, err := pick(in.Filters, regionFilters, regions)
	if err != nil {
		return nil, err
	}
	return &describeRegionsOutput{Regions: convert(regions, func(r state.Region) regionItem {
		return regionItem{Name: r.Name, Endpoint: endpoint(r.Name), OptIn: optIn(r)}
	})}, nil
}

type describeZonesInput struct {
	baseInput
	AllZones bool     `query:"AllAvailabilityZones"`
	Names    []string `query:"ZoneName"`
	IDs      []string `query:"ZoneId"`
	Filters  []filter `query:"Filter"`
}

type describeZonesOutput struct {
	baseResponse
	Zones set[zoneItem] `xml:"availabilityZoneInfo"`
}

type zoneItem struct {
	OptIn  string `xml:"optInStatus"`
	Group  string `xml:"groupName"`
	Border string `xml:"networkBorderGroup"`
	Type   string `xml:"zoneType"`
	Name   string `xml:"zoneName"`
	ID     string `xml:"zoneId"`
	State  string `xml:"zoneState"`
	Region string `xml:"regionName"`
	Parent string `xml:"parentZoneName,omitempty"`
}

// zoneName is a zone of the caller's region.
type zoneName string

const (
	zoneAvailable = "available"
	zoneType      = "availability-zone"
	localZoneType = "local-zone"
)

// group returns the group that an account opts in to: the region of a zone, or for a Local Zone
// its own group. https://docs.aws.amazon.com/local-zones/latest/ug/available-local-zones.html
func (c *call) group(z zoneName) string {
	if state.IsLocalZone(string(z)) {
		return string(z[:len(z)-1])
	}
	return c.caller.Region
}

// kindOf returns the type of a zone.
func kindOf(z zoneName) string {
	if state.IsLocalZone(string(z)) {
		return localZoneType
	}
	return zoneType
}

// parentOf returns the zone whose control plane a Local Zone uses, "" for another zone.
func (c *call) parentOf(z zoneName) string {
	if state.IsLocalZone(string(z)) {
		return c.region().Zones[0]
	}
	return ""
}

func (c *call) zoneFilters() attributes[zoneName] {
	region := one(func(zoneName) string { return c.caller.Region })
	return attributes[zoneName]{
		"group-name":       one(c.group),
		"opt-in-status":    one(func(zoneName) string { return c.optIn() }),
		"region-name":      region,
		"state":            one(func(zoneName) string { return zoneAvailable }),
		"zone-id":          one(func(z zoneName) string { return state.ZoneID(string(z)) }),
		"zone-name":        one(func(z zoneName) string { return string(z) }),
		"zone-type":        one(kindOf),
		"parent-zone-name": one(c.parentOf),
	}
}

func (c *call) describeZones(in *describeZonesInput) (*describeZonesOutput, error) {
	zones, missing := withIDs(c.zones(), in.Names, func(z zoneName) string { return string(z) })
	if len(missing) > 0 {
		return nil, query.Refuse("InvalidParameterValue", "Invalid availability zone: [%s]", missing[0])
	}
	zones, missing = withIDs(zones, in.IDs, func(z zoneName) string { return state.ZoneID(string(z)) })
	if len(missing) > 0 {
		return nil, query.Refuse("InvalidParameterValue", "Invalid availability zone-id: [%s]", missing[0])
	}
	zones, err := pick(in.Filters, c.zoneFilters(), zones)
	if err != nil {
		return nil, err
	}
	return &describeZonesOutput{Zones: convert(zones, c.describeZone)}, nil
}

// region returns the caller's region.
func (c *call) region() state.Region {
	regions := c.st.Regions()
	i := slices.IndexFunc(regions, func(r state.Region) bool { return r.Name == c.caller.Region })
	if i < 0 {
		return state.Region{}
	}
	return regions[i]
}

// optIn returns the opt-in status of the caller's region, which is that of its zones.
func (c *call) optIn() string { return optIn(c.region()) }

// zones returns the zones of the caller's region.
func (c *call) zones() []zoneName {
	var out []zoneName
	for _, z := range c.region().Zones {
		out = append(out, zoneName(z))
	}
	return out
}

func (c *call) describeZone(z zoneName) zoneItem {
	return zoneItem{
		OptIn: c.optIn(), Group: c.group(z), Border: c.group(z), Type: kindOf(z), Parent: c.parentOf(z),
		Name: string(z), ID: state.ZoneID(string(z)), State: zoneAvailable, Region: c.caller.Region,
	}
}
