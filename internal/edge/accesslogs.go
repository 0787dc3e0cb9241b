package edge

import (
	"cmp"
	"slices"
	"time"

	"gapless"
)

// keepLogs opens the access logs that a table asks for, changes those that
// are there, and lets the others end. e.mu is held.
func (e *Edge) keepLogs(t gapless.Table) {
	wanted := map[string]gapless.AccessLog{}
	for _, r := range t.Routes {
		if r.AccessLog != nil {
			wanted[r.App] = *r.AccessLog
		}
	}
	for app, l := range e.logs {
		if w, ok := wanted[app]; ok && w.Path == l.file.path {
			l.policy.Store(&w)
			continue
		}
		delete(e.logs, app)
		for _, c := range e.counts {
			if c.app == app {
				c.log.Store(nil)
			}
		}
		go l.close()
	}
	for app, w := range wanted {
		if e.logs[app] != nil {
			continue
		}
		if e.logs == nil {
			e.logs = map[string]*accessLog{}
		}
		log := e.log.With("app", app, "path", w.Path)
		e.logs[app] = newAccessLog(app, w, func(err error) {
			if err != nil {
				log.Warn("access log cannot be written, lines are dropped", "error", err)
			} else {
				log.Info("access log is written again")
			}
		})
	}
}

// logAs gives a listener the log of its one app.
func (h *hosts) logAs(l *accessLog) {
	if h.logged && h.log != l {
		l = nil
	}
	h.log, h.logged = l, true
}

// closeLogs writes what is left, as far as the disk takes it in a moment.
func (e *Edge) closeLogs() {
	e.mu.Lock()
	defer e.mu.Unlock()
	end := time.After(2 * time.Second)
	for _, l := range e.logs {
		go l.close()
	}
	for _, l := range e.logs {
		select {
		case <-l.done:
		case <-end:
			return
		}
	}
}

// logTraffic is what became of the lines of each log. e.mu is held.
func (e *Edge) logTraffic() (list []gapless.LogTraffic) {
	for app, l := range e.logs {
		list = append(list, gapless.LogTraffic{App: app, Lines: l.lines.Load(), Dropped: l.dropped.Load()})
	}
	slices.SortFunc(list, func(a, b gapless.LogTraffic) int { return cmp.Compare(a.App, b.App) })
	return list
}
