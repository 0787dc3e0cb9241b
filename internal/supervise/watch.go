package supervise

import (
	"context"
	"fmt"
	"time"

	"gapless"
)

// quiet is what the watcher remembers of a process: for how many looks in a
// row something was odd. One odd look may be a coincidence.
type quiet struct{ gone, over, deaf int }

const oddLooks = 2

// watch looks at all running processes now and then, with one reading of
// /proc for all of them: memory, listeners that went away, and exits that
// nobody reported.
func (s *Supervisor) watch() {
	const share = 200 // looking may take at most this part of the time
	for {
		begin := time.Now()
		every := s.look()
		if every > 0 {
			pause(s.ctx, max(every, min(share*time.Since(begin), 5*time.Second)))
		} else {
			select {
			case <-s.wake:
			case <-s.ctx.Done():
			}
		}
		if s.ctx.Err() != nil {
			return
		}
	}
}

// look looks once and returns when to look again; 0: when something starts.
func (s *Supervisor) look() time.Duration {
	roots := map[int]bool{}
	byPID := map[int]*process{}
	s.mu.Lock()
	for _, p := range s.processes {
		if p.pid > 0 {
			roots[p.pid], byPID[p.pid] = true, p
		}
	}
	s.mu.Unlock()
	if len(roots) == 0 {
		return 0
	}
	every := 2 * time.Second
	table, err := readProcTable()
	if err != nil {
		return every // no /proc on this system
	}
	memory := map[int]int64{}
	for pid, root := range table.owners(roots) {
		memory[root] += table[pid].resident
	}
	listening := listeningPorts()
	unreported := false
	for pid, p := range byPID {
		st, there := table[pid]
		p.quiet.gone = count(p.quiet.gone, !there || st.zombie)
		unreported = unreported || p.quiet.gone%10 == oddLooks
		p.inst.sample(p, memory[pid], listening)
		if p.inst.proc.Memory > 0 {
			every = time.Second
		}
	}
	if unreported {
		known, err := s.catchUp()
		for _, p := range byPID {
			if err == nil && p.quiet.gone >= oddLooks && !known[p.hostID] {
				p.end(gapless.Exit{Code: -1, At: time.Now()})
			}
		}
	}
	return every
}

func count(n int, odd bool) int {
	if odd {
		return n + 1
	}
	return 0
}

// listeningPorts returns nil when it cannot be known.
func listeningPorts() map[int]bool {
	all, err := readListeners()
	if err != nil {
		return nil
	}
	ports := map[int]bool{}
	for _, l := range all {
		ports[int(l.addr.Port())] = true
	}
	return ports
}

// sample takes note of one look at a process of the instance.
func (i *instance) sample(p *process, memory int64, listening map[int]bool) {
	limit := i.proc.Memory
	p.quiet.over = count(p.quiet.over, limit > 0 && memory > limit)
	i.set(func(v *gapless.Instance) {
		if v.PID == p.pid {
			v.Memory = memory
			v.OverMem = p.quiet.over >= oddLooks && i.proc.Cron == ""
		}
	})
	ready := i.observe().State == gapless.Ready
	p.quiet.deaf = count(p.quiet.deaf, ready && p.port != 0 && listening != nil && p.quiet.gone == 0 && !listening[p.port])
	if p.quiet.deaf >= oddLooks {
		select {
		case p.lost <- why{
			fmt.Sprintf("stopped listening on port %d, though it still runs", p.port),
			"the program closed its server, or the part of it that listened ended: see its log",
		}:
		default:
		}
	}
}

// catchUp asks the host for exits that were not reported, and returns which
// processes the host knows.
func (s *Supervisor) catchUp() (known map[string]bool, err error) {
	var list []Proc
	err = s.ask(func(ctx context.Context) error {
		var err error
		list, err = s.cfg.Host.List(ctx)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("list the processes that run: %w", err)
	}
	known = map[string]bool{}
	for _, p := range list {
		known[p.ID] = true
		s.Exited(p)
	}
	return known, nil
}
