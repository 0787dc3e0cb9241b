package daemon

import (
	"context"
	"errors"
	"fmt"
	"os"
	"syscall"
	"time"

	"gapless"
)

// lockStore takes the lock that lies beside the database: daemons share it,
// a restore has it alone. It waits until ctx ends. It is given back by the
// returned function or when the process ends.
func lockStore(ctx context.Context, home Home, alone bool) (func(), error) {
	f, err := os.OpenFile(home.path("run", "store.lock"), os.O_CREATE|os.O_RDONLY, 0o600)
	if err != nil {
		return nil, fmt.Errorf("lock the database: %w", err)
	}
	how := syscall.LOCK_SH
	if alone {
		how = syscall.LOCK_EX
	}
	for {
		err := syscall.Flock(int(f.Fd()), how|syscall.LOCK_NB)
		if err == nil {
			return func() { _ = f.Close() }, nil
		}
		if !errors.Is(err, syscall.EWOULDBLOCK) && !errors.Is(err, syscall.EINTR) {
			return nil, errors.Join(fmt.Errorf("lock the database: %w", err), f.Close())
		}
		select {
		case <-ctx.Done():
			return nil, errors.Join(gapless.Errorf(gapless.Conflict, "the database is in use"), f.Close())
		case <-time.After(20 * time.Millisecond):
		}
	}
}
