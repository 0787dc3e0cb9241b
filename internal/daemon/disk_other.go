//go:build !linux

package daemon

// readOnly is not known here.
func readOnly(string) bool { return false }
