//go:generate packer-sdc struct-markdown
package osc

// PublishConfig is who may launch the image. Who may use its snapshots has
// options of its own, which both clouds have.
type PublishConfig struct {
	// The ids of the accounts that may launch the OMI. By default none may but the
	// account itself. It says nothing of the snapshot: see `snapshot_users`.
	OMIAccountIDs []string `mapstructure:"omi_account_ids"`
	// Let every account launch the OMI. Defaults to `false`.
	GlobalPermission bool `mapstructure:"global_permission"`
}
