package keeper

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"gapless"
)

// proc is one process that keeper started. k.mu guards what changes.
type proc struct {
	Proc
	ready   chan struct{} // closed when the fork was tried
	err     error         // why it could not be started; set before ready is closed
	reaped  bool          // its pid is no longer ours to signal
	killed  bool          // we sent SIGKILL
	ended   chan struct{} // closed when the exit was announced
	pumps   []*pump
	file    *logFile // what pumps write to
	grace   time.Duration
	cgroups cgroups

	start      string        // see record.Start
	logTo      *Log          // nil: no pumps, or they are over
	reapedExit *gapless.Exit // set when it is known
	foreign    bool          // not our child: taken over from a keeper that died
}

// view is p for others; k.mu is held.
func (p *proc) view() Proc {
	v := p.Proc
	for _, pump := range p.pumps {
		v.DroppedLines += pump.dropped.Load()
	}
	if p.Exit != nil {
		e := *p.Exit
		v.Exit = &e
	}
	return v
}

func newProc(id, kind string) *proc {
	return &proc{Proc: Proc{ID: id, Kind: kind}, ready: make(chan struct{}), ended: make(chan struct{})}
}

// start starts an instance, once: whoever asks again gets the same process.
func (k *keeper) start(s Spec) (Proc, error) {
	if err := s.validate(); err != nil {
		return Proc{}, err
	}
	k.mu.Lock()
	p, known := k.procs[s.ID]
	if !known {
		if k.stopping {
			k.mu.Unlock()
			return Proc{}, errStopping
		}
		// The identity stands before the process does.
		p = newProc(s.ID, KindInstance)
		p.Meta, p.grace = s.Meta, s.Grace
		k.procs[s.ID] = p
	}
	k.mu.Unlock()
	if !known {
		env := slices.DeleteFunc(slices.Clone(s.Env), func(v string) bool { return strings.HasPrefix(v, InstanceEnv+"=") })
		s.Env = append(env, InstanceEnv+"="+s.ID)
		k.launch(p, s)
	}
	<-p.ready
	if p.err != nil {
		return Proc{}, p.err
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	return p.view(), nil
}

var errStopping = gapless.Errorf(gapless.Unavailable, "keeper is shutting down")

// launch forks p, which is in k.procs already, and closes p.ready.
func (k *keeper) launch(p *proc, s Spec) {
	defer close(p.ready)
	if p.err = k.tryLaunch(p, s); p.err != nil {
		k.mu.Lock()
		delete(k.procs, p.ID)
		k.ledger.drop(factProcess + "/" + p.ID)
		k.mu.Unlock()
		k.log.Warn("process not started", "id", p.ID, "error", p.err)
		return
	}
	k.log.Info("process started", "id", p.ID, "pid", p.PID)
}

func (k *keeper) tryLaunch(p *proc, s Spec) error {
	argv0, err := lookPath(s)
	if err != nil {
		return err
	}
	if p.cgroups, err = openCgroups(s.Cgroups); err != nil {
		return gapless.Errorf(gapless.NotStarted, "start %s: %w", s.ID, err)
	}
	defer p.cgroups.close()
	out, err := k.outputs(p, s.Log)
	if err != nil {
		return gapless.Errorf(gapless.NotStarted, "start %s: %w", s.ID, err)
	}
	defer out.close()
	files := out.files()
	if s.Listen != "" {
		fd, err := listenAt(s.Listen)
		if err != nil {
			out.abort(k)
			return gapless.Errorf(gapless.NotStarted, "start %s: make its socket %s: %w", s.ID, s.Listen, err)
		}
		defer unix.Close(fd)
		files = append(files, uintptr(fd))
	}

	// The next keeper can find it, and hold its pipes, from before it exists.
	k.mu.Lock()
	p.logTo = s.Log
	err = k.ledger.set(factProcess+"/"+p.ID, k.record(p), out.reads...)
	k.mu.Unlock()
	if err != nil {
		out.abort(k)
		unlink(s.Listen)
		return gapless.Errorf(gapless.NotStarted, "start %s: %w", s.ID, err)
	}

	env := slices.DeleteFunc(s.Env, func(v string) bool { return strings.HasPrefix(v, RunEnv+"=") })
	k.fork.Lock()
	pid, err := p.cgroups.fork(argv0, s.Argv, &syscall.ProcAttr{
		Dir:   s.Dir,
		Env:   append(env, RunEnv+"="+k.cfg.RunDir),
		Files: files,
		Sys:   &syscall.SysProcAttr{Setpgid: true, Credential: credential(s)},
	})
	if err != nil {
		k.fork.Unlock()
		out.abort(k)
		unlink(s.Listen)
		return explainStart(s, argv0, err)
	}
	k.mu.Lock()
	p.PID, p.Started, p.Running = pid, time.Now(), true
	if m, ok := readMember(pid); ok { // not reaped: it is there, if only as a zombie
		p.start = m.start
	}
	p.pumps, p.file = out.pumps, out.file
	k.pids[pid] = p
	k.note(p)
	k.changed(p)
	k.mu.Unlock()
	k.fork.Unlock()
	for _, pump := range out.pumps {
		go pump.run()
	}
	if s.OOMScoreAdj != 0 {
		if err := os.WriteFile(fmt.Sprintf("/proc/%d/oom_score_adj", pid), []byte(strconv.Itoa(s.OOMScoreAdj)), 0); err != nil {
			k.log.Warn("oom_score_adj not set", "id", p.ID, "error", err)
		}
	}
	return nil
}

// pipeSize is how many bytes of output may wait to be read, in kernel memory
// and only while they do.
const pipeSize = 256 << 10

// outputs are stdin, stdout and stderr of a new process, and the pumps at the
// other end.
type outputs struct {
	null  *os.File
	ends  []int // write ends: out, err
	reads []int // read ends, which the pumps own
	pumps []*pump
	file  *logFile
}

// outputs makes them: pipes into the log, or without a log nothing for an
// instance and keeper's own stdout and stderr for a child.
func (k *keeper) outputs(p *proc, l *Log) (*outputs, error) {
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err != nil {
		return nil, err
	}
	o := &outputs{null: null}
	switch {
	case l == nil && p.Kind == KindInstance:
		return o, nil
	case l == nil:
		o.ends = []int{-1, -1}
		return o, nil
	}
	o.file = k.logs.open(*l)
	for _, stream := range []string{"out", "err"} {
		// Only our end is non-blocking; the process gets an ordinary pipe.
		var fds [2]int
		if err = unix.Pipe2(fds[:], unix.O_CLOEXEC); err == nil {
			o.ends, o.reads = append(o.ends, fds[1]), append(o.reads, fds[0])
			err = unix.SetNonblock(fds[0], true)
			// Room for a burst. Programs that end in the middle of one (Node
			// with process.exit) lose what does not fit. Refused above a
			// user's limit; the default is good enough then.
			_, _ = unix.FcntlInt(uintptr(fds[0]), unix.F_SETPIPE_SZ, pipeSize)
			o.pumps = append(o.pumps, newPump(fds[0], o.file, k.scratch, l.Label, stream))
		}
		if err != nil {
			o.close()
			o.abort(k)
			return nil, fmt.Errorf("make a log pipe: %w", err)
		}
	}
	return o, nil
}

func (o *outputs) files() []uintptr {
	null := o.null.Fd()
	switch {
	case o.ends == nil:
		return []uintptr{null, null, null}
	case o.ends[0] < 0:
		return []uintptr{null, 1, 2}
	}
	return []uintptr{null, uintptr(o.ends[0]), uintptr(o.ends[1])}
}

// close closes our copies of what the process got.
func (o *outputs) close() {
	o.null.Close()
	for _, fd := range o.ends {
		if fd >= 0 {
			unix.Close(fd)
		}
	}
}

// abort drops the pumps of a process that was not started.
func (o *outputs) abort(k *keeper) {
	for _, p := range o.pumps {
		p.f.Close()
	}
	if o.file != nil {
		k.logs.release(o.file)
	}
}

// credential is whom to run as; nil: as keeper.
func credential(s Spec) *syscall.Credential {
	if s.UID == nil && s.GID == nil {
		return nil
	}
	c := &syscall.Credential{Uid: uint32(os.Geteuid()), Gid: uint32(os.Getegid()), Groups: s.Groups}
	if s.UID != nil {
		c.Uid = *s.UID
	}
	if s.GID != nil {
		c.Gid = *s.GID
	}
	c.NoSetGroups = os.Geteuid() != 0 // not ours to change; same user works, others fail in the fork
	return c
}

// lookPath resolves Argv[0] as a shell would in the environment of s.
func lookPath(s Spec) (string, error) {
	name := s.Argv[0]
	if strings.Contains(name, "/") {
		return name, nil
	}
	var path string
	for _, v := range s.Env {
		if p, ok := strings.CutPrefix(v, "PATH="); ok {
			path = p
		}
	}
	for _, dir := range filepath.SplitList(path) {
		if !filepath.IsAbs(dir) {
			dir = filepath.Join(s.Dir, dir)
		}
		full := filepath.Join(dir, name)
		if fi, err := os.Stat(full); err == nil && fi.Mode().IsRegular() && fi.Mode()&0o111 != 0 {
			return full, nil
		}
	}
	return "", gapless.Errorf(gapless.NotStarted, "start %s: %s is not in the PATH of the instance", s.ID, name)
}

// explainStart says which of the things that exec needs is missing.
func explainStart(s Spec, argv0 string, err error) error {
	at := argv0
	if !filepath.IsAbs(at) {
		at = filepath.Join(s.Dir, at)
	}
	if s.Dir != "" {
		if _, derr := os.Stat(s.Dir); derr != nil {
			return gapless.Errorf(gapless.NotStarted, "start %s: directory %s: %w", s.ID, s.Dir, err)
		}
	}
	e := gapless.Errorf(gapless.NotStarted, "start %s: %s: %w", s.ID, argv0, err)
	_, serr := os.Stat(at)
	switch {
	case errors.Is(err, unix.ENOENT) && serr == nil:
		return e.WithHint("%s is there, but the interpreter or loader that it names is not", at)
	case errors.Is(err, unix.ENOEXEC):
		return e.WithHint("%s is neither a program for this machine nor a script with a #! line", at)
	case errors.Is(err, unix.EPERM) && s.UID != nil:
		return e.WithHint("running as another user needs root")
	case errors.Is(err, fs.ErrPermission):
		return e.WithHint("%s, or a directory above it or %s, may not be used by that user", at, s.Dir)
	}
	return e
}

func (k *keeper) list() []Proc {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.listLocked()
}

// listLocked returns every process that was started, oldest first.
func (k *keeper) listLocked() []Proc {
	list := make([]Proc, 0, len(k.procs))
	for _, p := range k.procs {
		if !p.Started.IsZero() {
			list = append(list, p.view())
		}
	}
	slices.SortFunc(list, func(a, b Proc) int { return a.Started.Compare(b.Started) })
	return list
}

// find returns a process whose start is over.
func (k *keeper) find(id string) (*proc, error) {
	k.mu.Lock()
	p := k.procs[id]
	k.mu.Unlock()
	if p != nil {
		<-p.ready
		if p.err == nil {
			return p, nil
		}
	}
	return nil, gapless.Errorf(gapless.NotFound, "keeper knows no process %s", id)
}

// forget drops an exited instance and kills what it left behind.
func (k *keeper) forget(id string) error {
	p, err := k.find(id)
	if err != nil {
		return err
	}
	k.mu.Lock()
	running := p.Running
	k.mu.Unlock()
	if running {
		return gapless.Errorf(gapless.Conflict, "%s still runs", id)
	}
	if p.Kind != KindInstance {
		return gapless.Errorf(gapless.Invalid, "%s is a child of keeper", id)
	}
	if err := k.killTree(p); err != nil {
		return err
	}
	k.mu.Lock()
	if k.procs[id] == p {
		delete(k.procs, id)
		k.ledger.drop(factProcess + "/" + id)
	}
	k.mu.Unlock()
	k.releaseLogs(p)
	return nil
}
