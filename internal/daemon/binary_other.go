//go:build !linux

package daemon

import "math"

func hasCapabilities(string) bool { return false }

func freeSpace(string) uint64 { return math.MaxUint64 }
