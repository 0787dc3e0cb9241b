package keeper

import (
	"os"
	"path/filepath"
	"strconv"
	"syscall"
	"time"
)

// sweepGrace is what instances of a lost keeper get to end.
const sweepGrace = 3 * time.Second

// sweep ends the processes of an earlier keeper of which nobody kept anything:
// nobody reads their output, nobody sends them requests, and their successors
// are about to start.
func (k *keeper) sweep() {
	left := k.strangers()
	if len(left) == 0 {
		return
	}
	k.log.Warn("ends what a lost keeper left", "processes", len(left))
	mark := []byte(InstanceEnv)
	for _, m := range left {
		if named(m.pid, mark) {
			m.signal(syscall.SIGTERM)
		} else { // daemons and edges
			m.signal(syscall.SIGKILL)
		}
	}
	awaitNone(func() ([]member, error) { return k.strangers(), nil }, time.Now().Add(sweepGrace))
	for _, m := range k.strangers() {
		m.signal(syscall.SIGKILL)
	}
}

// strangers are the living processes that a keeper of this run directory
// started, but for ourselves and those that started us.
func (k *keeper) strangers() (found []member) {
	names, err := filepath.Glob("/proc/[0-9]*")
	if err != nil {
		return nil
	}
	above := map[int]bool{}
	for pid := os.Getpid(); pid > 0 && !above[pid]; {
		above[pid] = true
		m, _ := readMember(pid)
		pid = m.ppid
	}
	run := []byte(RunEnv + "=" + k.cfg.RunDir)
	for _, name := range names {
		pid, err := strconv.Atoi(filepath.Base(name))
		if err != nil || above[pid] {
			continue
		}
		if m, ok := readMember(pid); ok && !m.zombie && marked(pid, run) {
			found = append(found, m)
		}
	}
	return found
}
