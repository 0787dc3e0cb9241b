package keeper

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"gapless"
)

// member is one process below keeper, as /proc shows it.
type member struct {
	pid, ppid, pgrp int
	zombie          bool
	start           string // with pid it names a process for all time
}

// signal sends sig to the group of a process, and SIGKILL to its whole tree.
func (k *keeper) signal(id string, sig syscall.Signal) error {
	p, err := k.find(id)
	if err != nil {
		return err
	}
	if sig < 0 || sig > 64 {
		return gapless.Errorf(gapless.Invalid, "there is no signal %d", int(sig))
	}
	if sig == syscall.SIGKILL {
		return k.killTree(p)
	}
	return k.signalGroup(p, sig)
}

func (k *keeper) signalGroup(p *proc, sig syscall.Signal) error {
	k.mu.Lock()
	if !p.reaped && !p.foreign {
		// Not reaped, and reaping needs k.mu: the pid is still this process's.
		err := syscall.Kill(-p.PID, sig)
		k.mu.Unlock()
		if err != nil && err != syscall.ESRCH {
			return gapless.Errorf(gapless.NotAllowed, "signal %s: %w", p.ID, err)
		}
		return nil
	}
	k.mu.Unlock()
	left, err := k.members(p, false)
	for _, m := range left {
		m.signal(sig)
	}
	return err
}

// killTree kills the group, and every descendant that left it. A process with
// a pending SIGKILL cannot fork, so it is done when a look finds nobody new.
func (k *keeper) killTree(p *proc) error {
	k.mu.Lock()
	if !p.killed && !p.reaped {
		p.killed = true
		k.note(p)
	}
	k.mu.Unlock()
	seen := map[string]bool{}
	for first := true; ; first = false {
		// Look first: those below the process are found while it is there.
		found, err := k.members(p, true)
		if err != nil {
			return err
		}
		k.mu.Lock()
		if !p.reaped && !p.foreign && first {
			_ = syscall.Kill(-p.PID, syscall.SIGKILL) // ESRCH: all gone already
		}
		k.mu.Unlock()
		fresh := first
		for _, m := range found {
			if key := strconv.Itoa(m.pid) + "/" + m.start; !seen[key] {
				seen[key], fresh = true, true
				m.signal(syscall.SIGKILL)
			}
		}
		if !fresh {
			return nil
		}
	}
}

// members returns the living processes of p: its group, and with tree also
// every process below it or with its name in the environment. Only what is
// below keeper is looked at, so a number used again elsewhere is never hit.
func (k *keeper) members(p *proc, tree bool) ([]member, error) {
	below, err := k.descendants()
	if err != nil {
		return nil, err
	}
	k.mu.Lock()
	reaped := p.reaped
	other := k.pids[p.PID] // the number may belong to a newer process of ours
	k.mu.Unlock()
	ours := !reaped || other == nil
	under := map[int]bool{}
	mark := []byte(InstanceEnv + "=" + p.ID)
	var found []member
	for _, m := range below { // parents come before their children
		self := !reaped && m.pid == p.PID
		under[m.pid] = self || under[m.ppid]
		if m.zombie {
			continue
		}
		if self || ours && m.pgrp == p.PID && (!p.foreign || !reaped || marked(m.pid, mark)) || tree && (under[m.pid] || p.Kind == KindInstance && marked(m.pid, mark)) {
			found = append(found, m)
		}
	}
	return found, nil
}

// signal sends sig if the process is still the one that was seen.
func (m member) signal(sig syscall.Signal) {
	fd, err := unix.PidfdOpen(m.pid, 0)
	if err == nil {
		defer unix.Close(fd)
	}
	now, ok := readMember(m.pid)
	if !ok || now.start != m.start {
		return
	}
	if err != nil { // a kernel without pidfds
		_ = syscall.Kill(m.pid, sig)
		return
	}
	_ = unix.PidfdSendSignal(fd, sig, nil, 0) // it may have ended meanwhile
}

// descendants returns every process below keeper, and below those that it
// took over from a keeper that died, parents before children.
func (k *keeper) descendants() ([]member, error) {
	dir, err := os.Open("/proc")
	if err != nil {
		return nil, fmt.Errorf("look for processes: %w", err)
	}
	defer dir.Close()
	names, err := dir.Readdirnames(-1)
	if err != nil {
		return nil, fmt.Errorf("look for processes: %w", err)
	}
	k.mu.Lock()
	foreign := map[int]string{} // by pid: start
	for _, p := range k.procs {
		if p.foreign && !p.reaped {
			foreign[p.PID] = p.start
		}
	}
	orphans := k.orphans
	k.mu.Unlock()
	children := map[int][]member{}
	all := map[int]member{}
	var list []member
	for _, name := range names {
		pid, err := strconv.Atoi(name)
		if err != nil {
			continue
		}
		m, ok := readMember(pid)
		if !ok || pid == os.Getpid() {
			continue
		}
		all[pid] = m
		if start, ok := foreign[pid]; ok && start == m.start {
			list = append(list, m)
		} else {
			children[m.ppid] = append(children[m.ppid], m)
		}
	}
	list = append(list, children[os.Getpid()]...)
	for i := 0; i < len(list); i++ {
		list = append(list, children[list[i].pid]...)
	}
	if !orphans {
		return list, nil
	}
	// What lost its parent while no keeper lived is below pid 1.
	for _, m := range list {
		delete(all, m.pid)
	}
	run := []byte(RunEnv + "=" + k.cfg.RunDir)
	for pid := range all {
		if !marked(pid, run) {
			delete(all, pid)
		}
	}
	for begin := len(list); len(all) > 0; begin = len(list) {
		for pid, m := range all {
			if _, below := all[m.ppid]; !below {
				list = append(list, m)
				delete(all, pid)
			}
		}
		if len(list) == begin {
			break // seen while it changed; the next look is better
		}
	}
	return list, nil
}

func readMember(pid int) (m member, ok bool) {
	b, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return m, false
	}
	// pid (name) state ppid pgrp …; the name may hold anything.
	i := bytes.LastIndexByte(b, ')')
	if i < 0 {
		return m, false
	}
	f := strings.Fields(string(b[i+1:]))
	if len(f) < 20 {
		return m, false
	}
	m = member{pid: pid, zombie: f[0] == "Z" || f[0] == "X", start: f[19]}
	m.ppid, err = strconv.Atoi(f[1])
	pgrp, err2 := strconv.Atoi(f[2])
	m.pgrp = pgrp
	return m, errors.Join(err, err2) == nil
}

// marked reports whether all marks are in the environment of the process.
func marked(pid int, marks ...[]byte) bool {
	b, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/environ")
	if err != nil {
		return false
	}
	found := 0
	for v := range bytes.SplitSeq(b, []byte{0}) {
		if slices.ContainsFunc(marks, func(m []byte) bool { return bytes.Equal(v, m) }) {
			found++
		}
	}
	return found >= len(marks)
}

// named reports whether a variable is in the environment of the process.
func named(pid int, name []byte) bool {
	b, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/environ")
	return err == nil && bytes.Contains(append([]byte{0}, b...), append(append([]byte{0}, name...), '='))
}

// awaitNone waits until look finds nobody, or the deadline.
func awaitNone(look func() ([]member, error), deadline time.Time) bool {
	for {
		left, err := look()
		if err == nil && len(left) == 0 {
			return true
		}
		if !time.Now().Before(deadline) {
			return false
		}
		time.Sleep(25 * time.Millisecond)
	}
}
