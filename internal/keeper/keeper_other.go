//go:build !linux

package keeper

import (
	"context"

	"gapless"
)

// Run is not there yet on this system.
func Run(context.Context, Config) error {
	return gapless.Errorf(gapless.Unsupported, "keeper runs on Linux only, so far")
}

// Inherits reports whether this process was a keeper before.
func Inherits() bool { return false }
