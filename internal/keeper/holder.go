package keeper

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"gapless"
)

// Holder keeps a copy of all that keeper holds, duplicates of its descriptors
// included, and gives it to the next keeper. Because of it log pipes have a
// reader and sockets stay bound while no keeper lives. The daemon and every
// edge are holders.
type Holder struct {
	RunDir string
	Revive func() error  // starts a keeper; called while none answers
	After  time.Duration // how long to wait for others to do that
	Log    *slog.Logger

	mu    sync.Mutex
	seq   uint64
	whole bool
	facts map[string]heldFact
}

type heldFact struct {
	value json.RawMessage
	files []int
}

const (
	reviveFirst = 20 * time.Millisecond
	reviveMost  = 2 * time.Second
)

// Run holds until ctx ends.
func (h *Holder) Run(ctx context.Context) error {
	if h.Log == nil {
		h.Log = slog.New(slog.DiscardHandler)
	}
	ln, err := h.listen()
	if err != nil {
		return err
	}
	defer ln.Close()
	context.AfterFunc(ctx, func() { ln.Close() })
	go h.serve(ln)
	defer h.forget()
	wait := reviveFirst
	for ctx.Err() == nil {
		began := time.Now()
		err := h.follow(ctx)
		if time.Since(began) > reviveMost {
			wait = reviveFirst
		}
		switch {
		case ctx.Err() != nil:
		case gapless.CodeOf(err) == gapless.Unsupported:
			h.Log.Info("this keeper is older and tells nothing to hold")
			pause(ctx, reviveMost)
		case gapless.CodeOf(err) != gapless.Unavailable: // it answered until now
			h.Log.Info("connection to keeper lost", "error", err)
			pause(ctx, wait/10)
			wait = min(2*wait, reviveMost)
		default: // nobody listens
			up, err := h.revive(ctx)
			if err != nil {
				h.Log.Warn("keeper is gone and could not be started", "error", err)
			}
			if !up {
				pause(ctx, wait)
				wait = min(2*wait, reviveMost)
			}
		}
	}
	return nil
}

func pause(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}

// revive starts a keeper, unless another holder did, and reports whether one
// answers.
func (h *Holder) revive(ctx context.Context) (up bool, err error) {
	h.mu.Lock()
	known := h.whole
	h.mu.Unlock()
	if h.Revive == nil || !known {
		return false, nil // it never ran, or is just starting
	}
	if h.answers(ctx, h.After) {
		return true, nil
	}
	h.Log.Warn("keeper is gone and is started again")
	if err := h.Revive(); err != nil {
		return false, err
	}
	return h.answers(ctx, reviveMost), nil
}

// answers waits until a keeper listens, at most limit.
func (h *Holder) answers(ctx context.Context, limit time.Duration) bool {
	for end := time.Now().Add(limit); ctx.Err() == nil; pause(ctx, 2*time.Millisecond) {
		c, err := dial(ctx, SocketPath(h.RunDir))
		if err == nil {
			c.Close()
			return true
		}
		if time.Now().After(end) {
			return false
		}
	}
	return false
}

// follow copies keeper's ledger as long as keeper lives.
func (h *Holder) follow(ctx context.Context) error {
	conn, err := dial(ctx, SocketPath(h.RunDir))
	if err != nil {
		return err
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { conn.Close() })()
	if err := send(conn, 1, opHold, noArgs{}); err != nil {
		return fmt.Errorf("hold: %w", err)
	}
	r := newLedgerReader(conn)
	fresh := map[string]heldFact{} // until it is whole; then h.facts
	defer func() {
		if fresh != nil {
			closeFacts(fresh)
		}
	}()
	for {
		line, files, err := r.next()
		if err != nil {
			return err
		}
		switch {
		case line.Whole:
			h.mu.Lock()
			old := h.facts
			h.facts, h.seq, h.whole, fresh = fresh, line.Seq, true, nil
			h.mu.Unlock()
			closeFacts(old)
		case fresh != nil:
			fresh[line.Key] = heldFact{line.Value, files}
		default:
			h.change(line, files)
			if line.Value == nil { // something was let go of: keeper waits until we did
				if err := send(conn, 2, opHeld, seqArgs{line.Seq}); err != nil {
					return err
				}
			}
		}
	}
}

func (h *Holder) change(line entry, files []int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.seq = line.Seq
	old := h.facts[line.Key]
	if line.Same {
		files, old.files = old.files, nil
	}
	if line.Value == nil {
		delete(h.facts, line.Key)
	} else {
		h.facts[line.Key] = heldFact{line.Value, files}
	}
	closeAll(old.files)
}

func (h *Holder) forget() {
	h.mu.Lock()
	defer h.mu.Unlock()
	closeFacts(h.facts)
	h.facts, h.whole = nil, false
}

func closeFacts(facts map[string]heldFact) {
	for _, f := range facts {
		closeAll(f.files)
	}
}

func (h *Holder) listen() (*net.UnixListener, error) {
	path := holderSocket(h.RunDir, os.Getpid())
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("hold for keeper: %w", err)
	}
	ln, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		return nil, fmt.Errorf("hold for keeper: %w", err)
	}
	if err := os.Chmod(path, 0o600); err != nil {
		ln.Close()
		return nil, fmt.Errorf("hold for keeper: %w", err)
	}
	return ln, nil
}

// holderSocket is where a holder waits for the next keeper.
func holderSocket(dir string, pid int) string {
	return filepath.Join(dir, fmt.Sprintf("h-%d.sock", pid))
}

func holderSockets(dir string) []string {
	names, err := filepath.Glob(filepath.Join(dir, "h-*.sock"))
	if err != nil {
		return nil
	}
	return names
}

// Held reports whether a process lives that would give the next keeper of
// runDir what the last one had.
func Held(runDir string) bool {
	for _, path := range holderSockets(runDir) {
		if gives(path) {
			return true
		}
	}
	return false
}

// gives reports whether a holder has something to give: one that never heard
// a keeper ends the connection without a word.
func gives(path string) bool {
	c, err := net.DialTimeout("unix", path, time.Second)
	if err != nil {
		return false
	}
	defer c.Close()
	c.SetReadDeadline(time.Now().Add(time.Second))
	n, err := c.Read(make([]byte, 1))
	return n > 0 || errors.Is(err, os.ErrDeadlineExceeded) // slow is not gone
}

// serve gives everything to each one that asks: the next keeper.
func (h *Holder) serve(ln *net.UnixListener) {
	for {
		c, err := ln.AcceptUnix()
		if err != nil {
			if errors.Is(err, net.ErrClosed) {
				return
			}
			time.Sleep(reviveFirst) // out of descriptors, most likely
			continue
		}
		go func() {
			defer c.Close()
			if err := h.give(c); err != nil { // it may only have looked whether we are there
				h.Log.Debug("give to the next keeper", "error", err)
			}
		}()
	}
}

func (h *Holder) give(c *net.UnixConn) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if !h.whole {
		return nil
	}
	c.SetDeadline(time.Now().Add(time.Second))
	for key, f := range h.facts {
		line, err := encodeLine(answerOf(entry{Seq: h.seq, Key: key, Value: f.value, Files: len(f.files)}))
		if err != nil {
			return err
		}
		var oob []byte
		if len(f.files) > 0 {
			oob = syscall.UnixRights(f.files...)
		}
		if err := sendFiles(c, line, oob); err != nil {
			return err
		}
	}
	line, err := encodeLine(answerOf(entry{Seq: h.seq, Whole: true}))
	if err != nil {
		return err
	}
	return sendFiles(c, line, nil)
}

// answerOf wraps a ledger line as keeper would.
func answerOf(e entry) answer { return answer{V: Protocol, ID: 1, Result: mustJSON(e)} }

func mustJSON(e entry) json.RawMessage {
	b, err := json.Marshal(e)
	if err != nil {
		return nil // plain data: cannot fail
	}
	return b
}

// sendFiles writes a line, with descriptors in oob if there are any.
func sendFiles(c *net.UnixConn, line, oob []byte) error {
	if oob == nil {
		_, err := c.Write(line)
		return err
	}
	n, _, err := c.WriteMsgUnix(line, oob, nil)
	if err == nil && n < len(line) {
		_, err = c.Write(line[n:])
	}
	return err
}

// ledgerReader reads ledger lines with their descriptors, which come in order
// and never later than the line that they belong to.
type ledgerReader struct {
	r     *bufio.Reader
	files *fileReader
}

func newLedgerReader(c *net.UnixConn) *ledgerReader {
	f := &fileReader{c: c, oob: make([]byte, syscall.CmsgSpace(4*64))}
	return &ledgerReader{bufio.NewReader(f), f}
}

// next returns the next line; the descriptors are the caller's.
func (l *ledgerReader) next() (e entry, files []int, err error) {
	for {
		line, err := readLine(l.r)
		if err != nil {
			closeAll(l.files.got)
			l.files.got = nil
			return e, nil, err
		}
		var a answer
		if err := json.Unmarshal(line, &a); err != nil {
			return e, nil, err
		}
		if err := a.err(); err != nil {
			return e, nil, err
		}
		if len(a.Result) == 0 || string(a.Result) == "null" {
			continue // the answer to an acknowledgement
		}
		if err := json.Unmarshal(a.Result, &e); err != nil {
			return e, nil, err
		}
		if e.Files > len(l.files.got) {
			return e, nil, fmt.Errorf("keeper told of %d descriptors and sent %d", e.Files, len(l.files.got))
		}
		files = l.files.got[:e.Files:e.Files]
		l.files.got = l.files.got[e.Files:]
		return e, files, nil
	}
}

// fileReader reads a stream and collects the descriptors that come with it.
type fileReader struct {
	c   *net.UnixConn
	oob []byte
	got []int
}

func (f *fileReader) Read(b []byte) (int, error) {
	n, oobn, _, _, err := f.c.ReadMsgUnix(b, f.oob)
	if oobn > 0 {
		msgs, perr := syscall.ParseSocketControlMessage(f.oob[:oobn])
		for _, m := range msgs {
			got, rerr := syscall.ParseUnixRights(&m)
			f.got = append(f.got, got...)
			perr = errors.Join(perr, rerr)
		}
		err = errors.Join(err, perr)
	}
	return max(n, 0), err
}
