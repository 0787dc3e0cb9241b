package keeper

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"net"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"gapless"
)

// defaultGrace is Config.Grace when it is not set.
const defaultGrace = 30 * time.Second

// keeper is the state of a running keeper.
type keeper struct {
	cfg     Config
	log     *slog.Logger
	logs    *logFiles
	scratch *buffers
	held    listeners
	blobs   blobs
	ledger  *ledger
	lock    *os.File
	socket  *net.UnixListener

	fork sync.Mutex // held from before a fork until its pid is known; always before mu

	mu       sync.Mutex
	procs    map[string]*proc // by ID
	pids     map[int]*proc    // of those not yet reaped
	watchers map[*watcher]struct{}
	stopping bool
	orphans  bool            // some may have been left to pid 1, not to us
	taken    map[string]bool // taken over while they ran
	begin    []func()        // what taking over leaves to do, each on its own

	children map[string]*child // by name; not changed after Run has started
	edges    edges

	stop    sync.Once
	stopped chan struct{} // closed when only keeper is left

	answering atomic.Int64 // requests without an answer yet
}

// Run is the keeper process: it returns after Shutdown, or after an orderly
// shutdown when ctx ends or SIGTERM or SIGINT arrives. It owns the process it
// runs in: its signals, its children (also those it did not start), and the
// settings of the runtime. An error means that it could not start.
func Run(ctx context.Context, cfg Config) error {
	k, err := newKeeper(cfg)
	if err != nil {
		return err
	}
	small()
	before, err := inherit()
	if err != nil {
		return err
	}
	// What we inherited is not for the processes that we start. A kernel
	// without this call has only our own descriptors closed on exec.
	_ = unix.CloseRange(3, math.MaxUint32, unix.CLOSE_RANGE_CLOEXEC)
	if before != nil {
		k.lock, k.socket = before.lock, before.socket
	} else {
		if k.lock, err = lockRunDir(cfg.RunDir); err != nil {
			return err
		}
		if before = collect(cfg.RunDir, k.log); before == nil {
			k.sweep()
		}
	}
	defer k.lock.Close()
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		return fmt.Errorf("become a subreaper: %w", err)
	}
	copies := 0
	if before != nil {
		if err := k.takeOver(before); err != nil {
			return fmt.Errorf("take over from keeper before: %w", err)
		}
		copies = before.copies
	}
	k.ledger.settle(copies)
	if k.socket == nil {
		if k.socket, err = listenSocket(SocketPath(cfg.RunDir)); err != nil {
			return err
		}
	}
	defer k.socket.Close()

	// SIGHUP and SIGPIPE are received and dropped, not ignored: ignored
	// signals stay ignored in the processes that we start.
	signals := make(chan os.Signal, 8)
	signal.Notify(signals, unix.SIGTERM, unix.SIGINT, unix.SIGHUP, unix.SIGPIPE)
	defer signal.Stop(signals)
	chld := make(chan os.Signal, 1)
	signal.Notify(chld, unix.SIGCHLD)
	defer signal.Stop(chld)

	k.reap() // what ended during an execve
	go k.accept(k.socket)
	go func() {
		<-k.ledger.settled
		for _, f := range k.begin {
			go f()
		}
		k.startChildren()
	}()
	if err := notify(ctx, fmt.Sprintf("READY=1\nMAINPID=%d", os.Getpid())); err != nil {
		k.log.Warn("systemd was not told that keeper is ready", "error", err)
	}
	k.log.Info("keeper runs", "pid", os.Getpid(), "dir", cfg.RunDir)
	done := ctx.Done()
	for {
		select {
		case <-chld:
			k.reap()
		case s := <-signals:
			if s == unix.SIGTERM || s == unix.SIGINT {
				go k.shutdown(k.cfg.Grace, false)
			}
		case <-done:
			done = nil
			go k.shutdown(k.cfg.Grace, false)
		case <-k.stopped:
			k.finish()
			return nil
		}
	}
}

func newKeeper(cfg Config) (*keeper, error) {
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if err := cfg.LogTo.validate(); err != nil {
		return nil, err
	}
	logs, scratch := &logFiles{log: cfg.Log, files: map[string]*logFile{}}, &buffers{}
	if cfg.LogTo != nil {
		cfg.Log = logs.ownLog(*cfg.LogTo, scratch)
		logs.log = cfg.Log
	}
	if cfg.Grace <= 0 {
		cfg.Grace = defaultGrace
	}
	book := &ledger{log: cfg.Log, facts: map[string]fact{}, holders: map[*conn]*copyist{}, settled: make(chan struct{})}
	k := &keeper{
		ledger:   book,
		cfg:      cfg,
		log:      cfg.Log,
		logs:     logs,
		scratch:  scratch,
		held:     listeners{fds: map[string]int{}, ledger: book},
		blobs:    blobs{values: map[string][]byte{}, tell: book.blob},
		procs:    map[string]*proc{},
		pids:     map[int]*proc{},
		taken:    map[string]bool{},
		watchers: map[*watcher]struct{}{},
		children: map[string]*child{},
		stopped:  make(chan struct{}),
	}
	for _, c := range cfg.Children {
		if c.Name != DaemonChild && c.Name != EdgeChild {
			return nil, gapless.Errorf(gapless.Invalid, "keeper knows no child %q", c.Name).
				WithHint("known children: %s, %s", DaemonChild, EdgeChild)
		}
		if len(c.Argv) == 0 {
			return nil, gapless.Errorf(gapless.Invalid, "child %s has no command", c.Name)
		}
		if err := c.Log.validate(); err != nil {
			return nil, err
		}
		k.children[c.Name] = &child{Child: c}
	}
	k.edges.newest = lastGeneration(cfg.RunDir)
	return k, nil
}

// small keeps the memory of an idle keeper low: it has nothing to compute.
func small() {
	debug.SetGCPercent(20)
	runtime.GOMAXPROCS(min(runtime.GOMAXPROCS(0), 4))
}

const lockPatience = 100 * time.Millisecond

// lockRunDir makes sure that only one keeper runs on a directory. The lock
// ends with the process; the file stays.
func lockRunDir(dir string) (*os.File, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("make the run directory: %w", err)
	}
	f, err := os.OpenFile(filepath.Join(dir, "keeper.lock"), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("lock the run directory: %w", err)
	}
	// One that was killed just now may still be on its way out.
	for end := time.Now().Add(lockPatience); ; time.Sleep(10 * time.Millisecond) {
		if err = unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err == nil || time.Now().After(end) {
			break
		}
	}
	if err != nil {
		pid, _ := os.ReadFile(f.Name())
		f.Close()
		if errors.Is(err, unix.EWOULDBLOCK) {
			return nil, gapless.Errorf(gapless.Conflict, "another keeper runs on %s (pid %s)", dir, strings.TrimSpace(string(pid)))
		}
		return nil, fmt.Errorf("lock the run directory: %w", err)
	}
	// Only for people; a full disk must not keep us from starting.
	if f.Truncate(0) == nil {
		_, _ = f.WriteAt([]byte(strconv.Itoa(os.Getpid())+"\n"), 0)
	}
	return f, nil
}

// listenSocket opens keeper's own socket, for this user only. The caller
// holds the lock, so a socket that is there already is nobody's.
func listenSocket(path string) (*net.UnixListener, error) {
	if len(path) > 107 {
		return nil, gapless.Errorf(gapless.Invalid, "socket path %s is longer than 107 bytes", path).
			WithHint("set GAPLESS_HOME to a shorter path")
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("remove the old socket: %w", err)
	}
	old := unix.Umask(0o177)
	ln, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	unix.Umask(old)
	if err != nil {
		return nil, fmt.Errorf("listen: %w", err)
	}
	return ln, nil
}

// finish lets the last answers out.
func (k *keeper) finish() {
	for end := time.Now().Add(time.Second); k.answering.Load() > 0 && time.Now().Before(end); {
		time.Sleep(5 * time.Millisecond)
	}
	k.log.Info("keeper ends")
}
