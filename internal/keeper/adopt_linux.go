package keeper

import (
	"encoding/json"
	"errors"
	"maps"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"gapless"
)

// record is a process in the ledger.
type record struct {
	Proc
	next
	Start   string        `json:"start,omitempty"` // of the kernel's clock: with the pid it names a process for all time
	Log     *Log          `json:"log,omitempty"`   // with it come the read ends: out, err
	Partial [2][]byte     `json:"partial,omitzero"`
	Grace   time.Duration `json:"grace_ns,omitempty"`
	Killed  bool          `json:"killed,omitempty"` // by us
	Reaped  *gapless.Exit `json:"reaped,omitempty"` // known, but its last output may not be in the log yet
	OOM     []oomCounter  `json:"oom,omitempty"`
}

// record is p for the ledger; k.mu is held.
func (k *keeper) record(p *proc) record {
	return record{Proc: p.view(), next: k.next(), Start: p.start, Log: p.logTo, Grace: p.grace,
		Killed: p.killed, Reaped: p.reapedExit, OOM: p.cgroups.oom}
}

// note brings p's fact up to date; k.mu is held.
func (k *keeper) note(p *proc) {
	if k.procs[p.ID] == p {
		k.ledger.amend(factProcess+"/"+p.ID, k.record(p), false)
	}
}

// edgeFact is what the ledger says of edge generations.
type edgeFact struct {
	Newest  int `json:"newest"`
	Retired int `json:"retired,omitempty"`
}

// noteEdges writes which generation is the newest; k.mu is held.
func (k *keeper) noteEdges() {
	if err := k.ledger.set(factEdges, edgeFact{k.edges.newest, k.edges.retired}); err != nil {
		k.log.Warn("ledger", "error", err)
	}
}

// takeOver goes on with what the keeper before left. It runs before anyone
// can talk to this one.
func (k *keeper) takeOver(e *estate) error {
	k.ledger.seq, k.ledger.facts = e.seq, e.facts
	k.log.Info("takes over", "facts", len(e.facts))
	for key, f := range maps.Clone(e.facts) {
		kind, name, _ := strings.Cut(key, "/")
		switch kind {
		case factListener:
			if len(f.files) == 1 {
				fd, err := unix.FcntlInt(uintptr(f.files[0]), unix.F_DUPFD_CLOEXEC, 3)
				if err != nil {
					return err
				}
				k.held.fds[name] = fd
			}
		case factBlob:
			var value []byte
			if json.Unmarshal(f.value, &value) == nil {
				k.blobs.values[name] = value
			}
		case factEdges:
			var g edgeFact
			if json.Unmarshal(f.value, &g) == nil {
				k.edges.newest, k.edges.retired = max(k.edges.newest, g.Newest), g.Retired
			}
		case factProcess:
			var r record
			if err := json.Unmarshal(f.value, &r); err != nil {
				k.log.Error("a process record is not understood", "id", name, "error", err)
				continue
			}
			if err := k.adopt(r, f.files); err != nil {
				return err
			}
		}
	}
	return nil
}

// adopt goes on with one process.
func (k *keeper) adopt(r record, files []int) error {
	if r.PID == 0 && !k.findLost(&r) { // its fork was not told any more, or never happened
		k.log.Info("a process was about to start, and did not", "id", r.ID)
		k.ledger.drop(factProcess + "/" + r.ID)
		return nil
	}
	p := newProc(r.ID, r.Kind)
	p.Proc, p.start, p.grace, p.killed, p.logTo, p.cgroups.oom = r.Proc, r.Start, r.Grace, r.Killed, r.Log, r.OOM
	close(p.ready)
	if r.Log != nil && len(files) == 2 {
		p.file = k.logs.open(*r.Log)
		for i, stream := range []string{"out", "err"} {
			fd, err := unix.FcntlInt(uintptr(files[i]), unix.F_DUPFD_CLOEXEC, 3)
			if err != nil {
				return err
			}
			pump := newPump(fd, p.file, k.scratch, r.Log.Label, stream)
			pump.partial = r.Partial[i]
			p.pumps = append(p.pumps, pump)
			go pump.run()
		}
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	k.procs[p.ID] = p
	if r.Running {
		k.taken[p.ID] = true
	}
	defer k.note(p)
	if !r.Running {
		close(p.ended)
		return nil
	}
	m, there := readMember(p.PID)
	there = there && (p.start == "" || m.start == p.start)
	switch {
	case r.Reaped != nil:
		p.reaped, p.reapedExit = true, r.Reaped
		k.begin = append(k.begin, func() { k.over(p, *r.Reaped) })
	case there && m.ppid == os.Getpid(): // ours, as before an execve
		k.pids[p.PID] = p
	case there && !m.zombie:
		p.foreign, k.orphans = true, true
		k.begin = append(k.begin, func() { k.awaitForeign(p) })
	default:
		p.foreign, p.reaped, k.orphans = true, true, true
		k.begin = append(k.begin, func() { k.over(p, unknownExit()) })
	}
	return nil
}

func unknownExit() gapless.Exit { return gapless.Exit{Code: -1, At: time.Now()} }

// awaitForeign waits for the end of a process that is not our child.
func (k *keeper) awaitForeign(p *proc) {
	if err := awaitEnd(p.PID, p.start); err != nil {
		k.log.Warn("watch a process by looking", "id", p.ID, "error", err)
		for m, ok := readMember(p.PID); ok && !m.zombie && m.start == p.start; m, ok = readMember(p.PID) {
			time.Sleep(200 * time.Millisecond)
		}
	}
	k.mu.Lock()
	p.reaped = true
	k.mu.Unlock()
	k.over(p, unknownExit())
}

// awaitEnd returns when a process has ended; an error if that cannot be watched.
func awaitEnd(pid int, start string) error {
	fd, err := unix.PidfdOpen(pid, unix.PIDFD_NONBLOCK)
	if errors.Is(err, unix.ESRCH) {
		return nil
	}
	if err != nil {
		return err
	}
	f := os.NewFile(uintptr(fd), "pidfd")
	defer f.Close()
	if m, ok := readMember(pid); !ok || m.start != start {
		return nil
	}
	conn, err := f.SyscallConn()
	if err != nil {
		return err
	}
	return conn.Read(func(fd uintptr) bool {
		poll := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
		n, err := unix.Poll(poll, 0)
		return err == nil && n > 0
	})
}

// findLost looks for a process that was forked when its keeper died, by the
// names in its environment.
func (k *keeper) findLost(r *record) bool {
	want := [][]byte{[]byte(RunEnv + "=" + k.cfg.RunDir)}
	switch r.Kind {
	case KindInstance:
		want = append(want, []byte(InstanceEnv+"="+r.ID))
	case KindEdge:
		want = append(want, []byte(GenerationEnv+"="+strconv.Itoa(r.Generation)))
	default:
		return false // a second daemon ends by itself
	}
	names, err := filepath.Glob("/proc/[0-9]*")
	if err != nil {
		return false
	}
	for _, name := range names {
		pid, err := strconv.Atoi(filepath.Base(name))
		if err != nil || pid == os.Getpid() {
			continue
		}
		m, ok := readMember(pid)
		if ok && !m.zombie && m.pgrp == pid && marked(pid, want...) {
			r.PID, r.Start, r.Running, r.Started = pid, m.start, true, time.Now()
			return true
		}
	}
	return false
}
