package oapi

// actions are the implemented calls of the API, by name.
var actions = map[string]action{
	"ReadAccounts":   reading((*call).readAccounts),
	"ReadRegions":    reading((*call).readRegions),
	"ReadSubregions": reading((*call).readSubregions),

	"ReadVms": reading((*call).readVMs),

	"CreateVolume": changing((*call).createVolume),
	"ReadVolumes":  reading((*call).readVolumes),
	"UpdateVolume": changing((*call).updateVolume),
	"LinkVolume":   changing((*call).linkVolume),
	"UnlinkVolume": changing((*call).unlinkVolume),
	"DeleteVolume": changing((*call).deleteVolume),

	"CreateSnapshot": changing((*call).createSnapshot),
	"ReadSnapshots":  reading((*call).readSnapshots),
	"UpdateSnapshot": changing((*call).updateSnapshot),
	"DeleteSnapshot": changing((*call).deleteSnapshot),

	"CreateImage": changing((*call).createImage),
	"ReadImages":  reading((*call).readImages),
	"UpdateImage": changing((*call).updateImage),
	"DeleteImage": changing((*call).deleteImage),

	"CreateTags": changing((*call).createTags),
	"ReadTags":   reading((*call).readTags),
	"DeleteTags": changing((*call).deleteTags),
}
