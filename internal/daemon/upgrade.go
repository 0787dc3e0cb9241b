package daemon

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"gapless"
	"gapless/internal/api"
	"gapless/internal/edge"
	"gapless/internal/keeper"
)

// takeoverLimit bounds how long a new daemon or edge may take until it serves.
const takeoverLimit = 20 * time.Second

// Upgrade replaces keeper, the daemon and the edge by those of another
// binary, one after the other, while everything serves on. What runs that
// binary already is left alone, so it can be asked for again after it was
// interrupted. If the new daemon or edge does not come up, all go back to the
// binary before. from is the new binary; "" means the one before the present
// one. tell gets a line for people at each step.
func Upgrade(ctx context.Context, home Home, from string, tell func(format string, args ...any)) (Upgraded, error) {
	unlock, err := lockUpgrade(home)
	if err != nil {
		return Upgraded{}, err
	}
	defer unlock()
	k, err := dialKeeper(ctx, home)
	if err != nil {
		return Upgraded{}, gapless.Errorf(gapless.Unavailable, "nothing runs here to be upgraded: %w", err).
			WithHint("start with the new binary: gapless up")
	}
	defer func() { _ = k.Close() }()
	info, err := k.Hello(ctx)
	if err != nil {
		return Upgraded{}, err
	}
	if info.Binary == "" {
		return Upgraded{}, gapless.Errorf(gapless.Unsupported, "the keeper that runs is too old to be upgraded").
			WithHint("once: gapless down --all, then gapless up with the new binary")
	}
	u := upgrade{home: home, keeper: k, tell: tell}
	target, version, err := u.target(ctx, from)
	if err != nil {
		return Upgraded{}, err
	}
	wayBack := !strings.HasSuffix(info.Binary, deleted) // else there was no copy, and the file was replaced
	if target != info.Binary && wayBack {
		// Before anything else: whatever happens, there is a way back.
		if err := pointPrevious(home, info.Binary); err != nil {
			return Upgraded{}, gapless.Errorf(gapless.Unavailable, "remember the binary to go back to: %w", err)
		}
	}
	changed, err := u.to(ctx, target)
	if err != nil && target != info.Binary && wayBack && ctx.Err() == nil {
		tell("%s; going back", err)
		if _, back := u.to(ctx, info.Binary); back != nil {
			return Upgraded{}, errors.Join(err, fmt.Errorf("go back to %s: %w", info.Binary, back))
		}
		return Upgraded{}, gapless.Errorf(gapless.CodeOf(err), "the upgrade was taken back: %w", err).
			WithHint("%s serves on; read %s", info.Binary, home.Log())
	}
	if err != nil {
		return Upgraded{}, err
	}
	if err := pruneBinaries(home, target); err != nil {
		tell("old copies of the binary stay in %s: %s", home.Bin(), err)
	}
	return Upgraded{Version: version, Binary: target, Before: info.Version, Changed: changed}, nil
}

// Upgraded says what an upgrade did.
type Upgraded struct {
	Version string `json:"version"`
	Binary  string `json:"binary"`
	Before  string `json:"before"`  // version that ran
	Changed bool   `json:"changed"` // false: everything ran from that binary already
}

func lockUpgrade(home Home) (unlock func(), err error) {
	f, err := os.OpenFile(filepath.Join(home.Run(), "upgrade.lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if errors.Is(err, os.ErrNotExist) {
		return nil, gapless.Errorf(gapless.Unavailable, "nothing runs here to be upgraded").WithHint("start with the new binary: gapless up")
	}
	if err != nil {
		return nil, gapless.Errorf(gapless.Unavailable, "lock the upgrade: %w", err)
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		_ = f.Close()
		return nil, gapless.Errorf(gapless.Conflict, "another upgrade is under way").WithHint("wait for it: gapless status --wide shows what runs")
	}
	return func() { _ = f.Close() }, nil
}

// upgrade is one that is under way.
type upgrade struct {
	home   Home
	keeper *keeper.Client
	tell   func(format string, args ...any)
}

// target is the copy of the binary to go to, tried out.
func (u upgrade) target(ctx context.Context, from string) (path, version string, err error) {
	if from == "" {
		if path, err = os.Readlink(u.home.previous()); err != nil {
			return "", "", gapless.Errorf(gapless.NotFound, "there is no earlier binary to go back to")
		}
	} else {
		if from, err = filepath.Abs(from); err != nil {
			return "", "", err
		}
		if _, err := tryBinary(ctx, from); err != nil {
			return "", "", err
		}
		if path, err = keepBinary(u.home, from); err != nil {
			return "", "", err
		}
	}
	version, err = tryBinary(ctx, path)
	return path, version, err
}

// to brings keeper, daemon and edge to a binary.
func (u upgrade) to(ctx context.Context, path string) (changed bool, err error) {
	info, err := u.keeper.Hello(ctx)
	if err != nil {
		return false, err
	}
	if info.Binary != path {
		changed = true
		if err := u.keeper.Upgrade(ctx, path); err != nil {
			return changed, fmt.Errorf("upgrade keeper: %w", err)
		}
		u.tell("keeper goes on as %s, with everything that it held", path)
	}
	for _, step := range []func(context.Context, string) (bool, error){u.daemon, u.edge} {
		did, err := step(ctx, path)
		changed = changed || did
		if err != nil {
			return changed, err
		}
	}
	return changed, nil
}

// daemon ends the daemon, which keeper then starts from its own binary.
func (u upgrade) daemon(ctx context.Context, path string) (changed bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, takeoverLimit)
	defer cancel()
	client := api.NewClient(u.home.APISocket())
	for asked := 0; ; pauseFor(ctx, 10*time.Millisecond) {
		if ctx.Err() != nil {
			return changed, gapless.Errorf(gapless.Unavailable, "the new daemon did not come up within %s", takeoverLimit)
		}
		p, err := u.proc(ctx, keeper.DaemonChild)
		switch {
		case err != nil || p.PID == 0 || !p.Running:
		case runsFrom(p.PID) == path:
			if _, err := client.Status(ctx); err == nil {
				if changed {
					u.tell("the daemon runs from it, too")
				}
				return changed, nil
			}
		case p.PID != asked:
			changed, asked = true, p.PID
			if err := u.keeper.Signal(ctx, p.ID, syscall.SIGTERM); err != nil {
				return changed, fmt.Errorf("restart the daemon: %w", err)
			}
		}
	}
}

func (u upgrade) proc(ctx context.Context, id string) (keeper.Proc, error) {
	list, err := u.keeper.List(ctx)
	if err != nil {
		return keeper.Proc{}, err
	}
	if i := slices.IndexFunc(list, func(p keeper.Proc) bool { return p.ID == id }); i >= 0 {
		return list[i], nil
	}
	return keeper.Proc{}, nil
}

// edge starts one more generation (unless the newest is of that binary), waits
// until it serves what the others serve, and only then lets those drain.
func (u upgrade) edge(ctx context.Context, path string) (changed bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, takeoverLimit)
	defer cancel()
	old, err := u.edges(ctx)
	if err != nil {
		return false, err
	}
	version := uint64(0)
	for _, p := range old {
		if rep, err := u.report(ctx, p.Generation); err == nil {
			version = max(version, rep.Version)
		}
	}
	var next int
	if n := len(old); n > 0 && runsFrom(old[n-1].PID) == path {
		next, old = old[n-1].Generation, old[:n-1]
	} else {
		changed = true
		if next, err = u.keeper.NewEdge(ctx); err != nil {
			return changed, fmt.Errorf("start a new edge: %w", err)
		}
	}
	for serves := false; !serves; pauseFor(ctx, 5*time.Millisecond) {
		if ctx.Err() != nil {
			// Not retired: keeper goes on to start edges, then of the binary before.
			return changed, gapless.Errorf(gapless.Unavailable, "edge generation %d did not serve within %s", next, takeoverLimit)
		}
		if now, err := u.edges(ctx); err == nil && len(now) > 0 {
			next = max(next, now[len(now)-1].Generation) // it may have been started again
		}
		rep, err := u.report(ctx, next)
		serves = err == nil && rep.Version >= version && !rep.Draining
	}
	for _, p := range old {
		if err := u.drain(ctx, p.Generation); err != nil {
			switch ended := u.keeper.Signal(ctx, p.ID, syscall.SIGTERM); {
			case gapless.CodeOf(ended) == gapless.NotFound: // it ended by itself: its drain was over
			case ended != nil:
				return changed, fmt.Errorf("end edge generation %d, which does not answer (%w): %w", p.Generation, err, ended)
			default:
				u.tell("edge generation %d does not answer and is ended: %s", p.Generation, err)
			}
		}
	}
	if changed {
		u.tell("edge generation %d serves from it, those before drain", next)
	}
	return changed, nil
}

// edges are the running generations, oldest first.
func (u upgrade) edges(ctx context.Context) (out []keeper.Proc, err error) {
	list, err := u.keeper.List(ctx)
	if err != nil {
		return nil, err
	}
	for _, p := range list {
		if p.Kind == keeper.KindEdge && p.Running {
			out = append(out, p)
		}
	}
	slices.SortFunc(out, func(a, b keeper.Proc) int { return a.Generation - b.Generation })
	return out, nil
}

func (u upgrade) report(ctx context.Context, generation int) (rep gapless.EdgeReport, err error) {
	ctx, cancel := context.WithTimeout(ctx, callLimit)
	defer cancel()
	c, err := edge.Dial(ctx, u.home.EdgeSocket(generation))
	if err != nil {
		return rep, err
	}
	defer func() { _ = c.Close() }()
	return c.Report(ctx)
}

func (u upgrade) drain(ctx context.Context, generation int) error {
	ctx, cancel := context.WithTimeout(ctx, callLimit)
	defer cancel()
	c, err := edge.Dial(ctx, u.home.EdgeSocket(generation))
	if err != nil {
		return err
	}
	defer func() { _ = c.Close() }()
	return c.Drain(ctx)
}

func pauseFor(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}
