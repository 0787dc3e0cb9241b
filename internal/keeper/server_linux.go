package keeper

import (
	"bufio"
	"encoding/json"
	"errors"
	"net"
	"os"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"gapless"
)

// maxRequests of one connection are answered at once; more wait.
const maxRequests = 64

// conn is one connected client.
type conn struct {
	k     *keeper
	c     *net.UnixConn
	write sync.Mutex
	gone  chan struct{} // closed when the client has left
}

func (k *keeper) accept(ln *net.UnixListener) {
	for {
		c, err := ln.AcceptUnix()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil { // out of descriptors, most likely
			k.log.Warn("connection not accepted", "error", err)
			time.Sleep(50 * time.Millisecond)
			continue
		}
		if !sameUser(c) {
			c.Close()
			continue
		}
		go (&conn{k: k, c: c, gone: make(chan struct{})}).serve()
	}
}

// sameUser allows the user that keeper runs as, and root. The socket's mode
// says the same; this also holds if somebody changed it.
func sameUser(c *net.UnixConn) bool {
	raw, err := c.SyscallConn()
	if err != nil {
		return false
	}
	var cred *unix.Ucred
	cerr := raw.Control(func(fd uintptr) {
		cred, err = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED)
	})
	return cerr == nil && err == nil && (cred.Uid == 0 || int(cred.Uid) == os.Geteuid())
}

func (c *conn) serve() {
	defer c.c.Close()
	defer close(c.gone)
	r := bufio.NewReader(c.c)
	free := make(chan struct{}, maxRequests)
	for {
		line, err := readLine(r)
		if err != nil {
			if errors.Is(err, errLineTooLong) {
				c.answer(0, nil, gapless.Errorf(gapless.Invalid, "%w", err))
			}
			return
		}
		var req request
		if err := decode(line, &req); err != nil {
			c.answer(req.ID, nil, gapless.Errorf(gapless.Invalid, "request is not understood: %w", err))
			return
		}
		free <- struct{}{}
		c.k.answering.Add(1)
		go func() {
			defer c.k.answering.Add(-1)
			defer func() { <-free }()
			c.handle(req)
		}()
	}
}

func (c *conn) handle(req request) {
	if req.Op != opHold && req.Op != opHeld && req.Op != opHello {
		<-c.k.ledger.settled
	}
	switch {
	case req.V > Protocol:
		c.answer(req.ID, nil, gapless.Errorf(gapless.Unsupported, "keeper speaks protocol %d, not %d", Protocol, req.V))
	case req.Op == opWatch:
		c.watch(req.ID)
	case req.Op == opHold:
		c.hold(req.ID)
	case req.Op == opHeld:
		var a seqArgs
		err := decodeArgs(req, &a)
		if err == nil {
			c.k.ledger.ack(c, a.Seq)
		}
		c.answer(req.ID, nil, err)
	case req.Op == opListener:
		var a addrArgs
		if err := decodeArgs(req, &a); err != nil {
			c.answer(req.ID, nil, err)
			return
		}
		c.sendListener(req.ID, a.Addr)
	default:
		result, err := c.k.do(req)
		c.answer(req.ID, result, err)
	}
}

// do answers every op that has one plain answer.
func (k *keeper) do(req request) (any, error) {
	switch req.Op {
	case opHello:
		return with(req, func(noArgs) (any, error) {
			self, err := os.Executable()
			return Info{Protocol: Protocol, PID: os.Getpid(), Version: k.cfg.Version, Binary: self}, err
		})
	case opListen:
		return with(req, func(a addrArgs) (any, error) { return nil, k.listen(a.Addr) })
	case opUnlisten:
		return with(req, func(a addrArgs) (any, error) { return nil, k.held.close(a.Addr) })
	case opListeners:
		return with(req, func(noArgs) (any, error) { return k.held.list(), nil })
	case opStart:
		return with(req, func(s Spec) (any, error) { return k.start(s) })
	case opSignal:
		return with(req, func(a signalArgs) (any, error) { return nil, k.signal(a.ID, syscall.Signal(a.Signal)) })
	case opList:
		return with(req, func(noArgs) (any, error) { return k.list(), nil })
	case opForget:
		return with(req, func(a idArgs) (any, error) { return nil, k.forget(a.ID) })
	case opPut:
		return with(req, func(a putArgs) (any, error) { return nil, k.blobs.put(a.Key, a.Value) })
	case opGet:
		return with(req, func(a keyArgs) (any, error) { return k.blobs.get(a.Key) })
	case opNewEdge:
		return with(req, func(noArgs) (any, error) {
			n, err := k.newEdge()
			return genArgs{n}, err
		})
	case opRetire:
		return with(req, func(a genArgs) (any, error) { return nil, k.retire(a.Generation) })
	case opUpgrade:
		return with(req, func(a pathArgs) (any, error) { return nil, k.upgrade(a.Path) })
	case opShutdown:
		return with(req, func(a graceArgs) (any, error) {
			k.shutdown(time.Duration(a.GraceNS), true)
			return nil, nil
		})
	}
	if result, known, err := k.doNext(req); known {
		return result, err
	}
	return nil, gapless.Errorf(gapless.Unsupported, "keeper knows no op %q", req.Op)
}

func with[A any](req request, f func(A) (any, error)) (any, error) {
	var args A
	if err := decodeArgs(req, &args); err != nil {
		return nil, err
	}
	return f(args)
}

func decodeArgs(req request, into any) error {
	if len(req.Args) == 0 {
		req.Args = json.RawMessage("{}")
	}
	if err := decode(req.Args, into); err != nil {
		return gapless.Errorf(gapless.Invalid, "%s: arguments are not understood: %w", req.Op, err)
	}
	return nil
}

// answer writes one answer line. A client that does not read loses its
// connection.
func (c *conn) answer(id uint64, result any, err error) {
	line, err := answerLine(id, result, err)
	if err == nil {
		err = c.send(line, nil)
	}
	if err != nil {
		c.c.Close()
	}
}

func answerLine(id uint64, result any, err error) ([]byte, error) {
	a := answer{V: Protocol, ID: id}
	if err != nil {
		if !errors.As(err, &a.Error) {
			a.Error = gapless.Errorf(gapless.Internal, "%w", err)
		}
		errors.As(err, &a.Errno)
	} else if a.Result, err = json.Marshal(result); err != nil {
		return nil, err
	}
	return encodeLine(a)
}

func (c *conn) send(line, oob []byte) error {
	return c.sendWithin(writeTimeout, line, oob)
}

func (c *conn) sendWithin(limit time.Duration, line, oob []byte) error {
	c.write.Lock()
	defer c.write.Unlock()
	c.c.SetWriteDeadline(time.Now().Add(limit))
	return sendFiles(c.c, line, oob)
}

// sendListener answers with the descriptor attached.
func (c *conn) sendListener(id uint64, addr string) {
	fd, err := c.k.held.dup(addr)
	if err != nil {
		c.answer(id, nil, err)
		return
	}
	defer unix.Close(fd)
	line, err := answerLine(id, nil, nil)
	if err == nil {
		err = c.send(line, unix.UnixRights(fd))
	}
	if err != nil {
		c.c.Close()
	}
}

// watch answers once that it watches, then with the present list and each
// change, one answer line per process, until the client leaves or is too slow.
func (c *conn) watch(id uint64) {
	w, present := c.k.addWatcher()
	defer c.k.removeWatcher(w)
	c.answer(id, nil, nil)
	for _, p := range present {
		c.answer(id, p, nil)
	}
	for {
		select {
		case p, ok := <-w.events:
			if !ok {
				c.c.Close()
				return
			}
			c.answer(id, p, nil)
		case <-c.gone:
			return
		case <-c.k.stopped:
			return
		}
	}
}

// watcher gets every start and exit. One that does not keep up is closed, so
// that it knows that it missed something.
type watcher struct{ events chan Proc }

const watchQueue = 256

func (k *keeper) addWatcher() (*watcher, []Proc) {
	k.mu.Lock()
	defer k.mu.Unlock()
	w := &watcher{make(chan Proc, watchQueue)}
	k.watchers[w] = struct{}{}
	return w, k.listLocked()
}

func (k *keeper) removeWatcher(w *watcher) {
	k.mu.Lock()
	defer k.mu.Unlock()
	delete(k.watchers, w)
}

// changed tells every watcher about p; k.mu is held.
func (k *keeper) changed(p *proc) {
	for w := range k.watchers {
		select {
		case w.events <- p.view():
		default:
			delete(k.watchers, w)
			close(w.events)
		}
	}
}
