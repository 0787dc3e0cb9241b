//go:build planted_early_zero

package rollout

// Faults that a build tag plants, to prove that the load tests see them.
const (
	plantedEarlyZero = true  // a drain claims that nothing is in flight before that is so
	plantedStopFirst = false // an instance is stopped before it is drained
)
