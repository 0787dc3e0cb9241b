package daemon

import (
	"context"
	"strings"
	"syscall"

	"gapless/internal/keeper"
	"gapless/internal/supervise"
)

// keeperHost lets supervise start processes by keeper.
type keeperHost struct{ k *keeper.Client }

func (h keeperHost) Start(ctx context.Context, s supervise.Spec) (int, error) {
	spec := keeper.Spec{
		ID: s.ID, Argv: s.Argv, Env: s.Env, Dir: s.Dir, Cgroups: s.Cgroups,
		OOMScoreAdj: s.OOMScoreAdj, Grace: s.Grace, Meta: s.Meta, Listen: s.Listen,
		Log: &keeper.Log{Path: s.Log.Path, Label: s.Log.Label, MaxSize: s.Log.MaxSize, MaxAge: s.Log.MaxAge, Keep: s.Log.Keep},
	}
	if s.User != nil {
		spec.UID, spec.GID, spec.Groups = &s.User.UID, &s.User.GID, s.User.Groups
	}
	p, err := h.k.Start(ctx, spec)
	return p.PID, err
}

func (h keeperHost) Signal(ctx context.Context, id string, sig syscall.Signal) error {
	return h.k.Signal(ctx, id, sig)
}

func (h keeperHost) Forget(ctx context.Context, id string) error { return h.k.Forget(ctx, id) }

func (h keeperHost) List(ctx context.Context) ([]supervise.Proc, error) {
	procs, err := h.k.List(ctx)
	if err != nil {
		return nil, err
	}
	var out []supervise.Proc
	for _, p := range procs {
		if p.Kind == keeper.KindInstance && !beside(p) {
			out = append(out, fromKeeper(p))
		}
	}
	return out, nil
}

// beside reports whether a process is no instance but runs beside them: a
// hook, or a command that is run once.
func beside(p keeper.Proc) bool {
	return strings.HasPrefix(p.ID, hookPrefix) || strings.HasPrefix(p.ID, oncePrefix)
}

func fromKeeper(p keeper.Proc) supervise.Proc {
	return supervise.Proc{ID: p.ID, PID: p.PID, Started: p.Started, Running: p.Running, Exit: p.Exit, Meta: p.Meta}
}
