//go:build nextversion

package daemon

import (
	"context"
	"log/slog"

	"gapless"
	"gapless/internal/keeper"
)

// greet sends the op that the next version adds. A keeper of this version
// does not know it, and that must do no harm.
func greet(ctx context.Context, k *keeper.Client, log *slog.Logger) error {
	day, err := k.Birthday(ctx)
	if gapless.CodeOf(err) == gapless.Unsupported {
		log.Info("keeper is of the version before and has no birthday")
		return nil
	}
	if err == nil {
		log.Info("keeper has its birthday " + day)
	}
	return err
}
