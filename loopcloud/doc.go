// Package loopcloud is a cloud on one machine: it joins what a cloud knows
// (state), the bytes behind it (volume), and the wire formats that are spoken
// (ec2, imds, oapi) to one server.
//
//	POST /              EC2; GET / too, with an Action in the query
//	/latest/…           the EC2 metadata service
//	/api/v1/…           the Outscale API; /api/latest/… too
//	/_loopcloud/…       its own control, for peers on this machine
//
// The control has
//
//	GET            health
//	GET, DELETE    calls                 the record of calls: read it, clear it
//	GET, DELETE    faults                the rules for calls that go wrong
//	POST           faults                a fault.Rule, or a list of them
//	GET, DELETE    held                  the calls that are held: read them, release them
//	DELETE         held/{n}              release one
//	GET, DELETE    clock                 the clocks: read them, set them right
//	POST           clock?advance=…       move the time of things; skew=… that on the wire
//	GET            images                all images, as JSON
//	POST           images?name=…         an import; the body is a disk (see WriteDisk)
//	GET            images/{id}/disk      an export: the same kind of body
package loopcloud
