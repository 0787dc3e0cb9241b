package keeper

import (
	"encoding/json"
	"errors"
	"log/slog"
	"maps"
	"os"
	"slices"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// Kinds of facts; a key is "<kind>/<name>".
const (
	factListener = "listen"
	factProcess  = "proc"
	factBlob     = "blob"
	factEdges    = "edges" // just one, without a name
)

// fact is a value with the descriptors that belong to it.
type fact struct {
	value json.RawMessage
	files []int // the ledger's own
}

// ledger is everything that the next keeper needs, kept up to date at every
// change and copied to every holder before the change takes effect: what was
// written into a holder's socket survives keeper.
type ledger struct {
	log     *slog.Logger
	mu      sync.Mutex
	seq     uint64
	facts   map[string]fact
	holders map[*conn]*copyist
	want    int           // holders that are on their way
	settled chan struct{} // closed when they are here, or late
}

// settleLimit bounds how long a new keeper changes nothing because those who
// held for the one before do not hold for it yet.
const settleLimit = 300 * time.Millisecond

// settle begins to wait for n holders.
func (l *ledger) settle(n int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.want = n; n == 0 {
		close(l.settled)
		return
	}
	time.AfterFunc(settleLimit, func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.arrived(l.want)
	})
}

// arrived counts holders that came; l.mu is held.
func (l *ledger) arrived(n int) {
	if l.want == 0 {
		return
	}
	if l.want -= n; l.want == 0 {
		close(l.settled)
	}
}

// copyist is one holder as keeper sees it.
type copyist struct {
	id    uint64 // of its request
	acked uint64 // what it has surely read; guarded by ledger.mu
	moved chan struct{}
}

// holderPatience bounds how long a holder that does not read holds up keeper.
const holderPatience = 100 * time.Millisecond

// set writes a fact. Its descriptors are duplicated.
func (l *ledger) set(key string, value any, files ...int) error {
	own := make([]int, 0, len(files))
	for _, fd := range files {
		d, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 3)
		if err != nil {
			closeAll(own)
			return err
		}
		own = append(own, d)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	old := l.facts[key].files
	l.facts[key] = fact{marshal(value), own}
	l.tell(entry{Key: key, Value: l.facts[key].value, Files: len(own)}, own)
	closeAll(old)
	return nil
}

// amend writes a new value; the descriptors stay, unless bare.
func (l *ledger) amend(key string, value any, bare bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	f, ok := l.facts[key]
	if !ok {
		return
	}
	f.value = marshal(value)
	if bare {
		closeAll(f.files)
		f.files = nil
	}
	l.facts[key] = f
	l.tell(entry{Key: key, Value: f.value, Same: !bare}, nil)
}

// drop removes a fact, and returns the line that says so.
func (l *ledger) drop(key string) uint64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	f, ok := l.facts[key]
	if !ok {
		return 0
	}
	delete(l.facts, key)
	l.tell(entry{Key: key}, nil)
	closeAll(f.files)
	return l.seq
}

// tell copies a line to every holder; l.mu is held.
func (l *ledger) tell(e entry, files []int) {
	l.seq++
	e.Seq = l.seq
	for c, h := range l.holders {
		if err := c.copyLine(h.id, e, files); err != nil {
			if errors.Is(err, os.ErrDeadlineExceeded) {
				l.log.Warn("a holder does not keep up", "error", err)
			}
			delete(l.holders, c)
			c.c.Close() // it comes again, and then gets everything
		}
	}
}

// join tells c everything and adds it to the holders.
func (l *ledger) join(c *conn, id uint64) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, key := range slices.Sorted(maps.Keys(l.facts)) {
		f := l.facts[key]
		if err := c.copyLine(id, entry{Seq: l.seq, Key: key, Value: f.value, Files: len(f.files)}, f.files); err != nil {
			return err
		}
	}
	l.holders[c] = &copyist{id: id, acked: l.seq, moved: make(chan struct{}, 1)}
	if err := c.copyLine(id, entry{Seq: l.seq, Whole: true}, nil); err != nil {
		delete(l.holders, c)
		return err
	}
	l.arrived(1)
	return nil
}

func (l *ledger) leave(c *conn) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.holders, c)
}

// ack notes that a holder has read, and acted upon, all lines up to seq.
func (l *ledger) ack(c *conn, seq uint64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if h := l.holders[c]; h != nil {
		h.acked = max(h.acked, seq)
		select {
		case h.moved <- struct{}{}:
		default:
		}
	}
}

// await returns when every holder has acted upon seq, or after limit.
func (l *ledger) await(seq uint64, limit time.Duration) {
	timer := time.NewTimer(limit)
	defer timer.Stop()
	for {
		var behind *copyist
		l.mu.Lock()
		for _, h := range l.holders {
			if h.acked < seq {
				behind = h
			}
		}
		l.mu.Unlock()
		if behind == nil {
			return
		}
		select {
		case <-behind.moved:
		case <-time.After(5 * time.Millisecond): // it may have left meanwhile
		case <-timer.C:
			return
		}
	}
}

// blob writes what changed among the blobs.
func (l *ledger) blob(key string, value []byte) {
	if value == nil {
		l.drop(factBlob + "/" + key)
		return
	}
	if err := l.set(factBlob+"/"+key, value); err != nil {
		l.log.Warn("ledger", "error", err)
	}
}

func marshal(v any) json.RawMessage {
	b, err := json.Marshal(v)
	if err != nil {
		return json.RawMessage("{}") // our own plain types: cannot fail
	}
	return b
}

// copyLine sends one line of the ledger to a holder, with its descriptors.
func (c *conn) copyLine(id uint64, e entry, files []int) error {
	line, err := answerLine(id, e, nil)
	if err != nil {
		return err
	}
	var oob []byte
	if len(files) > 0 {
		oob = unix.UnixRights(files...)
	}
	return c.sendWithin(holderPatience, line, oob)
}

// hold makes the client a holder until it leaves.
func (c *conn) hold(id uint64) {
	if err := c.k.ledger.join(c, id); err != nil {
		c.c.Close()
		return
	}
	defer c.k.ledger.leave(c)
	select {
	case <-c.gone:
	case <-c.k.stopped:
	}
}
