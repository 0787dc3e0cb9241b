package keeper

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"strconv"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// stateEnv names the descriptor with the state that a keeper left for the one
// that it becomes by execve.
const stateEnv = "GAPLESS_KEEPER_STATE"

// estate is what an earlier keeper left behind: its facts, whose descriptors
// are ours, and after an execve also its lock and its socket.
type estate struct {
	seq    uint64
	facts  map[string]fact
	copies int // holders that have it, too
	lock   *os.File
	socket *net.UnixListener
}

// will is the estate as it goes through an execve: descriptors are numbers.
type will struct {
	Seq    uint64     `json:"seq"`
	Copies int        `json:"copies,omitempty"`
	Lock   int        `json:"lock"`
	Socket int        `json:"socket"`
	Back   string     `json:"back"` // the binary that left this
	Facts  []willFact `json:"facts"`
}

type willFact struct {
	Key   string          `json:"key"`
	Value json.RawMessage `json:"value"`
	Files []int           `json:"files,omitempty"`
}

// Inherits reports whether this process was a keeper before and became
// another binary by execve.
func Inherits() bool { return os.Getenv(stateEnv) != "" }

// inherit reads what this process left itself before an execve; nil if it
// came by none. If that cannot be understood, it goes back to the binary that
// wrote it.
func inherit() (*estate, error) {
	text, ok := os.LookupEnv(stateEnv)
	if !ok {
		return nil, nil
	}
	if err := os.Unsetenv(stateEnv); err != nil {
		return nil, err
	}
	fd, err := strconv.Atoi(text)
	if err != nil {
		return nil, fmt.Errorf("%s=%q is not a descriptor", stateEnv, text)
	}
	f := os.NewFile(uintptr(fd), "state")
	w, err := readWill(f)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("take over from keeper before: %w", err), w.goBack(f))
	}
	f.Close()
	e := &estate{seq: w.Seq, copies: w.Copies, facts: map[string]fact{}, lock: os.NewFile(uintptr(w.Lock), "keeper.lock")}
	for _, x := range w.Facts {
		e.facts[x.Key] = fact{x.Value, x.Files}
	}
	s := os.NewFile(uintptr(w.Socket), "keeper.sock")
	defer s.Close()
	ln, err := net.FileListener(s)
	if err != nil {
		return nil, fmt.Errorf("take over keeper's socket: %w", err)
	}
	e.socket = ln.(*net.UnixListener)
	return e, nil
}

func readWill(f *os.File) (w will, err error) {
	if _, err = f.Seek(0, io.SeekStart); err != nil {
		return w, err
	}
	b, err := io.ReadAll(f)
	if err != nil {
		return w, err
	}
	// First what is needed to go back, whatever the rest looks like.
	var back struct{ Back string }
	if err := json.Unmarshal(b, &back); err == nil {
		w.Back = back.Back
	}
	err = json.Unmarshal(b, &w)
	if err == nil && (w.Lock < 3 || w.Socket < 3) {
		err = errors.New("the state names no lock or no socket")
	}
	return w, err
}

// goBack becomes the binary again that left this; it returns only if it cannot.
func (w will) goBack(f *os.File) error {
	if w.Back == "" {
		return nil
	}
	env := append(os.Environ(), fmt.Sprintf("%s=%d", stateEnv, f.Fd()))
	return unix.Exec(w.Back, append([]string{w.Back}, os.Args[1:]...), env)
}

// collectLimit bounds how long a new keeper waits for one holder.
const (
	collectLimit    = 500 * time.Millisecond
	collectPatience = 5 * time.Second // with holders that are there and slow: without them everything is lost
)

// collect asks every holder of a run directory what the last keeper had, and
// returns the newest; nil if nobody holds anything. The caller has the lock.
func collect(dir string, log *slog.Logger) *estate {
	for end := time.Now().Add(collectPatience); ; {
		e, slow := ask(dir, log)
		if e != nil || !slow || time.Now().After(end) {
			return e
		}
	}
}

// ask asks every holder once; slow: one is there, but did not answer in time.
func ask(dir string, log *slog.Logger) (best *estate, slow bool) {
	var mu sync.Mutex
	copies := 0
	var wg sync.WaitGroup
	for _, path := range holderSockets(dir) {
		wg.Go(func() {
			e, err := askHolder(path)
			if err != nil {
				log.Info("a holder does not answer", "socket", path, "error", err)
				if errors.Is(err, unix.ECONNREFUSED) {
					os.Remove(path) // left by a dead one
				} else if errors.Is(err, os.ErrDeadlineExceeded) {
					mu.Lock()
					slow = true
					mu.Unlock()
				}
				return
			}
			mu.Lock()
			defer mu.Unlock()
			copies++
			if best == nil || e.seq > best.seq {
				best, e = e, best
			}
			if e != nil {
				e.close()
			}
		})
	}
	wg.Wait()
	if best != nil {
		best.copies = copies
	}
	return best, slow
}

func (e *estate) close() {
	for _, f := range e.facts {
		closeAll(f.files)
	}
}

// askHolder reads everything that one holder has.
func askHolder(path string) (*estate, error) {
	c, err := net.DialTimeout("unix", path, collectLimit)
	if err != nil {
		return nil, err
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(collectLimit))
	r := newLedgerReader(c.(*net.UnixConn))
	e := &estate{facts: map[string]fact{}}
	for {
		line, files, err := r.next()
		if err != nil {
			e.close()
			return nil, err
		}
		e.seq = max(e.seq, line.Seq)
		if line.Whole {
			return e, nil
		}
		e.facts[line.Key] = fact{line.Value, files}
	}
}
