package daemon

import (
	"context"
	"errors"

	"gapless"
)

// preparation is a release that is being made. Its rollout has not begun.
type preparation struct {
	rollout gapless.Rollout
	spec    *gapless.App // as it was asked for
	ctx     context.Context
	cancel  context.CancelCauseFunc
	over    chan struct{} // closed when the rollout began or failed
}

// Why a release is not made to the end.
var (
	errAborted  = errors.New("aborted by a person")
	errReplaced = errors.New("replaced by a newer deploy")
	errDown     = errors.New("the app was taken down")
)

// settle says that the release was made, or was not.
func (a *app) settle() {
	a.mu.Lock()
	defer a.mu.Unlock()
	p := a.preparing
	a.preparing = nil
	p.cancel(nil)
	close(p.over)
}

// making reports whether a release is being made.
func (a *app) making() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.preparing != nil
}

// interrupt ends the making of a release for the reason given, and waits until
// nothing of it is left. It returns its rollout, which failed; nil where no
// release was being made, or its rollout began just now.
func (a *app) interrupt(ctx context.Context, reason error) (*gapless.Rollout, error) {
	a.mu.Lock()
	p := a.preparing
	a.mu.Unlock()
	if p == nil {
		return nil, nil
	}
	p.cancel(reason)
	select {
	case <-ctx.Done():
		return nil, ctx.Err()
	case <-p.over:
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.failed == nil || a.failed.ID != p.rollout.ID {
		return nil, nil
	}
	r := *a.failed
	return &r, nil
}
