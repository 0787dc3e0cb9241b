//go:build !failpoints

package rollout

// failpoint does nothing in a binary that people get.
func failpoint(ActionKind, point) {}
