//go:generate packer-sdc struct-markdown
package osc

// PublishConfig holds the options for sharing the image. Those for sharing its snapshots are
// in builder.Sharing.
type PublishConfig struct {
	// The IDs of the accounts that may launch the OMI. By default only the account itself
	// may. An ID that does not have 12 digits is refused. The permissions of the snapshot
	// are separate: see `snapshot_users`.
	OMIAccountIDs []string `mapstructure:"omi_account_ids"`
	// Let every account launch the OMI. Defaults to `false`.
	GlobalPermission bool `mapstructure:"global_permission"`
}
