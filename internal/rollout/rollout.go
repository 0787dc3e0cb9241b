// Package rollout moves traffic from one release to the next. Decide is pure:
// state and observation in, new state and actions out; no I/O, no clock, no
// goroutine. The Runner observes, asks Decide, saves the new state and then
// acts. Fleet and Router are all it knows of the world; who starts processes
// or serves requests is not its business. Called by the daemon, once per app.
package rollout

import (
	"context"

	"gapless"
)

// Fleet starts and stops instances: processes here, containers or pods elsewhere.
type Fleet interface {
	// Start is idempotent by instance ID and keeps the instance running until Stop.
	Start(ctx context.Context, in gapless.Instance) error
	// Observe lists every instance of the app that is not forgotten.
	Observe(ctx context.Context, app string) ([]gapless.Instance, error)
	// Stop ends an instance: SIGTERM, grace, SIGKILL. It does not wait; Observe tells.
	Stop(ctx context.Context, id string) error
	// Forget drops the record of a stopped instance.
	Forget(ctx context.Context, id string) error
}

// Router moves traffic.
type Router interface {
	// Apply makes the route of an app what new requests are routed by; nil removes it.
	// It is asked again while Observed is not known: the same route is no change then.
	Apply(ctx context.Context, app string, route *gapless.Route) error
	// Observed is read back from what really serves.
	Observed(ctx context.Context, app string) (Served, error)
}

// Served is what every live edge generation serves for one app.
type Served struct {
	Known     bool              // every live generation answered and serves what was applied last; false while an Apply is under way or failed
	Route     *gapless.Route    // nil with Known: no route
	InFlight  map[string]int    // per instance, summed over generations, read after Route was served
	Unhealthy map[string]bool   // by the edge's probes
	Given     map[string]uint64 // per instance, summed over generations: requests it was given so far
	Refusing  map[string]bool   // every connection is refused, for a while now
	Failing   map[string]bool   // requests do not get through, for a while now
	FellBack  bool              // nobody renewed the lease: the edge went back to stable by itself
}

// Evidence is what routers counted of each release. A router without it
// cannot be judged by error rate.
type Evidence interface {
	// Since returns what was counted after cursor, and the cursor to go on from.
	// A nil cursor asks for the present one only.
	Since(ctx context.Context, app string, cursor Cursor) ([]gapless.Tally, Cursor, error)
}

// Acknowledger is Evidence that keeps what it counted until it is told that
// the cursor up to which it was taken in is saved. A nil cursor says that
// nobody wants to know. It does not block.
type Acknowledger interface {
	Acknowledge(app string, saved Cursor)
}

// Leaser is a Router that goes back by itself when nobody judges a leased
// route. It is told after every round in which somebody did; it does not block.
type Leaser interface {
	Renew(app string)
}

// Hooks runs commands of a plan. A hook is known by its key, so that it is
// never run twice without being asked to.
type Hooks interface {
	Start(ctx context.Context, key string, rel *gapless.Release, command string) error
	State(key string) (HookState, bool) // false: nothing is known of it
}

// HookState is how far a hook is.
type HookState struct {
	Done   bool
	OK     bool
	Output string // last line, for people
}

// Journal keeps the state of an app over crashes.
type Journal interface {
	Save(ctx context.Context, s State) error
}
