package amazon

// sharingHelps holds the advice after refusals to share, by code and permission: the codes mean
// something else elsewhere. Publication finds most causes before.
// Source: https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/block-public-access-to-amis.html
// and https://docs.aws.amazon.com/ebs/latest/userguide/block-public-access-snapshots.html
var sharingHelps = map[string]string{
	"InvalidParameter ec2:ModifyImageAttribute":       "with ami_users, ami_org_arns or ami_ou_arns: " + managedKeyHelp,
	codeUnsupported + " ec2:ModifyImageAttribute":     "with ami_groups: no AMI with an encrypted snapshot can be public: leave ami_groups out, or build without encryption",
	codeNotPermitted + " ec2:ModifyImageAttribute":    "with ami_groups: the account's setting Block public access for AMIs is on in {region}: turn it off there (ec2:DisableImageBlockPublicAccess), or share with accounts by ami_users",
	codeLimitExceeded + " ec2:ModifyImageAttribute":   "with ami_groups: the account has all the public AMIs that it may have in {region}: deregister some or make them private, or ask Service Quotas for more Public AMIs",
	codeNotPermitted + " ec2:ModifySnapshotAttribute": "with snapshot_users: " + managedKeyHelp + "; with snapshot_groups: the snapshot is encrypted, or the account's setting Block public access for snapshots is on in {region} (ec2:DisableSnapshotBlockPublicAccess turns it off)",
	codeUnsupported + " ec2:ModifySnapshotAttribute":  "with snapshot_groups: no encrypted snapshot can be public: leave snapshot_groups out, or build without encryption",
}

const managedKeyHelp = "a snapshot is encrypted with the key alias/aws/ebs of {region}, which AWS manages and no other account can use: " +
	"give root_volume_kms_key_id, or encrypt_boot with kms_key_id and, for copies, region_kms_key_ids, a customer managed key"
