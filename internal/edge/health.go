package edge

import (
	"bufio"
	"cmp"
	"context"
	"time"

	"gapless"
	"gapless/internal/edge/h1"
)

const (
	probeInterval   = 2 * time.Second
	probeTimeout    = 2 * time.Second
	probeAnswerSize = 16 << 10
)

// prober knows how many probes of an instance went the same way in a row.
type prober struct {
	*instance
	health    gapless.Health
	good, bad int
}

// saw is the rule: so many failures in a row take an instance out, so many
// successes put it back. The probes never make anyone ready that the table
// does not name.
func (p *prober) saw(ok bool) (changed bool) {
	if ok {
		p.good, p.bad = p.good+1, 0
		return p.good >= healthyAfter(p.health) && p.unhealthy.Swap(false)
	}
	p.good, p.bad = 0, p.bad+1
	return p.bad >= unhealthyAfter(p.health) && !p.unhealthy.Swap(true)
}

// watchHealth probes an instance until ctx ends.
func (e *Edge) watchHealth(ctx context.Context, i *instance, h gapless.Health) {
	p := prober{instance: i, health: h}
	t := time.NewTicker(cmp.Or(h.Interval.Std(), probeInterval))
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-t.C:
		}
		err := probe(ctx, e.now, i, h)
		if ctx.Err() != nil {
			return
		}
		if p.saw(err == nil) {
			e.news(i.app)
			if err != nil {
				e.log.Warn("instance taken out by the edge's probe", "app", i.app, "instance", i.id, "error", err)
			} else {
				e.log.Info("instance put back by the edge's probe", "app", i.app, "instance", i.id)
			}
		}
	}
}

// probe asks an instance once: an accepted connection is enough without a
// path, otherwise the answer must be 2xx or 3xx.
func probe(ctx context.Context, now func() int64, i *instance, h gapless.Health) error {
	ctx, cancel := context.WithTimeout(ctx, cmp.Or(h.Timeout.Std(), probeTimeout))
	defer cancel()
	c, err := i.connect(ctx, cmp.Or(h.Timeout.Std(), probeTimeout))
	i.dialed(now(), err)
	if err != nil {
		return err
	}
	defer c.Close()
	if h.Path == "" {
		return nil
	}
	if t, ok := ctx.Deadline(); ok {
		c.SetDeadline(t)
	}
	stop := context.AfterFunc(ctx, func() { c.SetDeadline(past) })
	defer stop()
	if _, err := c.Write([]byte("GET " + h.Path + " HTTP/1.1\r\nHost: localhost\r\nUser-Agent: gapless-probe\r\nAccept: */*\r\nConnection: close\r\n\r\n")); err != nil {
		return err
	}
	var head h1.Head
	r := bufio.NewReaderSize(c, probeAnswerSize)
	for want := 1; ; want = r.Buffered() + 1 {
		if _, err := r.Peek(want); err != nil {
			return err
		}
		b, _ := r.Peek(r.Buffered())
		done, bad := head.ParseResponse(b)
		switch {
		case bad != nil:
			return bad
		case done && head.Interim():
			r.Discard(head.Size)
		case done && head.Status >= 400:
			return gapless.Errorf(gapless.Unavailable, "%s answered %d", h.Path, head.Status)
		case done:
			return nil
		}
	}
}
