package daemon

import (
	"context"
	"errors"
	"os"
	"strconv"
	"syscall"
	"time"

	"gapless"
	"gapless/internal/keeper"
)

// Diagnose says why no daemon answers where keeper still holds what runs. It
// returns nil where nothing runs.
func Diagnose(ctx context.Context, home Home) error {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	k, err := keeper.Dial(ctx, keeper.SocketPath(home.Run()))
	if err != nil {
		return nil
	}
	defer func() { _ = k.Close() }()
	procs, err := k.List(ctx)
	if err != nil {
		return nil
	}
	n := 0
	for _, p := range procs {
		if p.Kind == keeper.KindInstance && p.Running && !beside(p) {
			n++
		}
	}
	what := "the daemon is not up"
	if n > 0 {
		what += ", what runs serves on (instances: " + strconv.Itoa(n) + ")"
	}
	switch err := writable(home.Run()); {
	case errors.Is(err, syscall.EROFS):
		return gapless.Errorf(gapless.Unavailable, "%s: the disk that holds %s is read-only", what, home).
			WithHint("look why with dmesg and mount it writable again; the daemon starts by itself then")
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT):
		return gapless.Errorf(gapless.Unavailable, "%s: the disk that holds %s is full", what, home).
			WithHint("free some space; the daemon starts by itself then")
	case err != nil:
		return gapless.Errorf(gapless.Unavailable, "%s: %s cannot be written to: %w", what, home, err).
			WithHint("check the disk and who owns the directory; the daemon starts by itself then")
	}
	return gapless.Errorf(gapless.Unavailable, "%s", what).WithHint("it is started again and again; why it ends is in %s", home.Log())
}

// writable tries to write a little file.
func writable(dir string) error {
	f, err := os.CreateTemp(dir, ".probe-*")
	if err != nil {
		return err
	}
	_, err = f.Write(make([]byte, 4096))
	return errors.Join(err, f.Sync(), f.Close(), os.Remove(f.Name()))
}
