package ec2

// actions are the implemented actions of the API, by name.
var actions = map[string]action{
	"DescribeRegions":           reading((*call).describeRegions),
	"DescribeAvailabilityZones": reading((*call).describeZones),

	"DescribeInstances":  reading((*call).describeInstances),
	"RunInstances":       changing((*call).runInstances),
	"TerminateInstances": changing((*call).terminateInstances),

	"ModifyInstanceMetadataOptions": changing((*call).modifyMetadata),

	"CreateVolume":                 changing((*call).createVolume),
	"DescribeVolumes":              reading((*call).describeVolumes),
	"ModifyVolume":                 changing((*call).modifyVolume),
	"DescribeVolumesModifications": reading((*call).describeModifications),
	"AttachVolume":                 changing((*call).attachVolume),
	"DetachVolume":                 changing((*call).detachVolume),
	"DeleteVolume":                 changing((*call).deleteVolume),

	"CreateSnapshot":            changing((*call).createSnapshot),
	"DescribeSnapshots":         reading((*call).describeSnapshots),
	"CopySnapshot":              changing((*call).copySnapshot),
	"DeleteSnapshot":            changing((*call).deleteSnapshot),
	"ModifySnapshotAttribute":   changing((*call).modifySnapshotAttribute),
	"DescribeSnapshotAttribute": reading((*call).describeSnapshotAttribute),

	"RegisterImage":                        changing((*call).registerImage),
	"DescribeImages":                       reading((*call).describeImages),
	"CopyImage":                            changing((*call).copyImage),
	"DeregisterImage":                      changing((*call).deregisterImage),
	"ModifyImageAttribute":                 changing((*call).modifyImageAttribute),
	"DescribeImageAttribute":               reading((*call).describeImageAttribute),
	"EnableImageDeprecation":               changing((*call).enableImageDeprecation),
	"DisableImageDeprecation":              changing((*call).disableImageDeprecation),
	"DisableImage":                         changing((*call).disableImage),
	"EnableImage":                          changing((*call).enableImage),
	"ResetImageAttribute":                  changing((*call).resetImageAttribute),
	"EnableImageDeregistrationProtection":  changing((*call).enableProtection),
	"DisableImageDeregistrationProtection": changing((*call).disableProtection),
	"GetInstanceUefiData":                  reading((*call).instanceUEFIData),

	"GetEbsEncryptionByDefault":                   reading((*call).encryptionByDefault),
	"EnableEbsEncryptionByDefault":                changing((*call).enableEncryption),
	"DisableEbsEncryptionByDefault":               changing((*call).disableEncryption),
	"GetEbsDefaultKmsKeyId":                       reading((*call).defaultKey),
	"ModifyEbsDefaultKmsKeyId":                    changing((*call).modifyDefaultKey),
	"ResetEbsDefaultKmsKeyId":                     changing((*call).resetDefaultKey),
	"GetImageBlockPublicAccessState":              reading((*call).imageBlock),
	"EnableImageBlockPublicAccess":                changing((*call).enableImageBlock),
	"DisableImageBlockPublicAccess":               changing((*call).disableImageBlock),
	"GetSnapshotBlockPublicAccessState":           reading((*call).snapshotBlock),
	"EnableSnapshotBlockPublicAccess":             changing((*call).enableSnapshotBlock),
	"DisableSnapshotBlockPublicAccess":            changing((*call).disableSnapshotBlock),
	"GetAllowedImagesSettings":                    reading((*call).allowedImages),
	"EnableAllowedImagesSettings":                 changing((*call).enableAllowedImages),
	"DisableAllowedImagesSettings":                changing((*call).disableAllowedImages),
	"ReplaceImageCriteriaInAllowedImagesSettings": changing((*call).replaceCriteria),

	"CreateTags":   changing((*call).createTags),
	"DeleteTags":   changing((*call).deleteTags),
	"DescribeTags": reading((*call).describeTags),
}
