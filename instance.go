package gapless

import (
	"strconv"
	"time"
)

// InstanceState is where an instance is in its life.
type InstanceState string

const (
	Starting InstanceState = "starting" // process runs, not ready yet
	Ready    InstanceState = "ready"    // web: its own listener answers; others: alive for a moment
	Draining InstanceState = "draining" // out of the pick, in-flight work ends
	Stopping InstanceState = "stopping" // was told to stop
	Crashed  InstanceState = "crashed"  // exited by itself; a restart is due after a back-off
	Failed   InstanceState = "failed"   // did not become ready in time, or cannot be started; no restart is due
	Stopped  InstanceState = "stopped"  // gone, as asked
)

// Instance is one running copy of a release.
type Instance struct {
	ID       string        `json:"id"` // unique for all time: <app>.<release>.<process>.<slot>.<suffix>
	App      string        `json:"app"`
	Release  string        `json:"release"` // name: v3
	Process  string        `json:"process"`
	Slot     int           `json:"slot"` // 1…n within its process
	State    InstanceState `json:"state"`
	Since    time.Time     `json:"since"` // of State
	PID      int           `json:"pid,omitempty"`
	Address  string        `json:"address,omitempty"` // "127.0.0.1:31001" or "unix:/path"; web only
	Restarts int           `json:"restarts"`          // crash restarts so far
	Exit     *Exit         `json:"exit,omitempty"`    // how its last process ended
	Reason   string        `json:"reason,omitempty"`  // why it is not ready, for people
	Hint     string        `json:"hint,omitempty"`    // what to do about Reason
	Memory   int64         `json:"memory,omitempty"`  // resident bytes of the process tree
	OverMem  bool          `json:"over_memory,omitempty"`
}

// Label is the short name people see: "v3/1", "v3/worker.1".
func (i Instance) Label() string {
	if i.Process == WebProcess {
		return i.Release + "/" + strconv.Itoa(i.Slot)
	}
	return i.Release + "/" + i.Process + "." + strconv.Itoa(i.Slot)
}

// Exit is how a process ended.
type Exit struct {
	Code   int       `json:"code"`             // -1 when killed by a signal or unknown
	Signal string    `json:"signal,omitempty"` // "SIGKILL"
	OOM    bool      `json:"oom,omitempty"`    // killed for using too much memory
	At     time.Time `json:"at"`
}

func (e Exit) String() string {
	switch {
	case e.OOM:
		return "killed: out of memory"
	case e.Signal != "":
		return "killed by " + e.Signal
	case e.Code < 0:
		return "ended, exit code unknown"
	}
	return "exit code " + strconv.Itoa(e.Code)
}
