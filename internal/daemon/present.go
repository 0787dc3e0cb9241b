//go:build !nextversion

package daemon

import (
	"context"
	"log/slog"

	"gapless/internal/keeper"
)

// greet says what the next version says to keeper: nothing yet.
func greet(context.Context, *keeper.Client, *slog.Logger) error { return nil }
