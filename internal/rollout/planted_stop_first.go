//go:build planted_stop_first

package rollout

// Faults that a build tag plants, to prove that the load tests see them.
const (
	plantedEarlyZero = false // a drain claims that nothing is in flight before that is so
	plantedStopFirst = true  // an instance is stopped before it is drained
)
