// Package loopcloud is a cloud on one machine. It combines the state of a cloud (state), the data
// of its disks (volume) and the APIs (ec2, ebs, sts, kms, imds, oapi) in one
// server.
//
//	POST /              EC2, STS and KMS; GET / too, with an Action in the query
//	/snapshots…         the EBS direct APIs
//	/latest/…           the EC2 metadata service
//	/api/v1/…           the Outscale API; /api/latest/… too
//	/_loopcloud/…       the control API, for clients on this machine
//
// The control API has
//
//	GET            health
//	GET, DELETE    calls                 the log of calls: read it, clear it
//	GET, DELETE    faults                the fault rules: read them, clear them
//	POST           faults                add a fault.Rule, or a list of them
//	GET, DELETE    held                  the held calls: read them, release them
//	DELETE         held/{n}              release one
//	GET, DELETE    clock                 the clocks: read them, reset them
//	POST           clock?advance=…       advance the time of resources; skew=… sets the error of the API's clock
//	GET, POST      settings              the settings of accounts: read them, change them
//	GET            images                all images, as JSON
//	POST           images?name=…         an import; the body is a disk (see WriteDisk)
//	GET            images/{id}/disk      an export: the same kind of body
package loopcloud
