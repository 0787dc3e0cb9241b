package keeper

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"sync"
	"syscall"
	"time"

	"gapless"
)

// Client talks to a running keeper. It is safe for concurrent use. When the
// connection is lost every call fails with gapless.Unavailable: dial again, or
// ask for a Patient client.
type Client struct {
	socket   string
	patience time.Duration
	life     context.Context // ends with Close
	end      context.CancelCauseFunc

	mu   sync.Mutex
	link *link
}

// link is one connection with the calls that wait on it.
type link struct {
	conn *net.UnixConn
	life context.Context // ends when the connection is lost
	end  context.CancelCauseFunc

	write sync.Mutex // one request on the wire at a time

	mu      sync.Mutex
	next    uint64
	pending map[uint64]chan answer
}

// writeTimeout bounds how long a peer that does not read can hold us.
const writeTimeout = 10 * time.Second

// errLost is in every error that says that the connection broke.
var errLost = errors.New("connection to keeper lost")

// Dial connects to the keeper that listens on socket (see SocketPath).
func Dial(ctx context.Context, socket string) (*Client, error) {
	c := &Client{socket: socket}
	c.life, c.end = context.WithCancelCause(context.Background())
	_, err := c.connect(ctx)
	if err != nil {
		return nil, err
	}
	return c, nil
}

// Patient makes c outlive keeper: when the connection is lost it dials again,
// and asks again what can be asked twice, for as long as limit.
func (c *Client) Patient(limit time.Duration) *Client {
	c.patience = limit
	return c
}

// connect returns the present link, or makes one where there is none.
func (c *Client) connect(ctx context.Context) (*link, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.life.Err() != nil {
		return nil, context.Cause(c.life)
	}
	if c.link != nil && (c.link.life.Err() == nil || c.patience == 0) {
		return c.link, nil
	}
	conn, err := dial(ctx, c.socket)
	if err != nil {
		return nil, err
	}
	l := &link{conn: conn, pending: map[uint64]chan answer{}}
	l.life, l.end = context.WithCancelCause(c.life)
	go l.read()
	c.link = l
	return l, nil
}

func dial(ctx context.Context, socket string) (*net.UnixConn, error) {
	var d net.Dialer
	conn, err := d.DialContext(ctx, "unix", socket)
	if err != nil {
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		return nil, gapless.Errorf(gapless.Unavailable, "keeper does not answer: %w", fmt.Errorf("%w: %w", errLost, err))
	}
	return conn.(*net.UnixConn), nil
}

// Close ends the connection and every Watch of this client.
func (c *Client) Close() error {
	c.end(gapless.Errorf(gapless.Unavailable, "connection to keeper is closed"))
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.link.conn.Close()
}

// redialPause is between two attempts to reach a keeper that is away.
const redialPause = 10 * time.Millisecond

// call sends one request and waits for its answer.
func (c *Client) call(ctx context.Context, op string, args, result any) error {
	for end := time.Now().Add(c.patience); ; pause(ctx, redialPause) {
		l, err := c.connect(ctx)
		if err == nil {
			err = l.call(ctx, op, args, result)
		}
		if err == nil || !c.again(op, err) || time.Now().After(end) {
			return err
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
	}
}

// again reports whether op may be asked again after err.
func (c *Client) again(op string, err error) bool {
	return c.patience > 0 && errors.Is(err, errLost) && c.life.Err() == nil &&
		op != opNewEdge && op != opUpgrade && op != opShutdown
}

// Hello asks keeper who it is.
func (c *Client) Hello(ctx context.Context) (info Info, err error) {
	err = c.call(ctx, opHello, noArgs{}, &info)
	return info, err
}

// Listen makes keeper open and hold a listening TCP socket. ":8080" accepts
// IPv4 and IPv6. Listening twice on the same address is no error.
func (c *Client) Listen(ctx context.Context, addr string) error {
	return c.call(ctx, opListen, addrArgs{addr}, nil)
}

// Unlisten makes keeper close its copy of the socket. Duplicates that others
// hold stay open until they close them.
func (c *Client) Unlisten(ctx context.Context, addr string) error {
	return c.call(ctx, opUnlisten, addrArgs{addr}, nil)
}

// Listeners returns the addresses that keeper holds, sorted.
func (c *Client) Listeners(ctx context.Context) (addrs []string, err error) {
	err = c.call(ctx, opListeners, noArgs{}, &addrs)
	return addrs, err
}

// Start starts a process, or returns the one of that ID: under way, running,
// or exited and not yet forgotten.
func (c *Client) Start(ctx context.Context, spec Spec) (p Proc, err error) {
	err = c.call(ctx, opStart, spec, &p)
	if spec.Listen != "" && gapless.CodeOf(err) == gapless.Unsupported {
		err = gapless.Errorf(gapless.Unsupported, "the keeper that runs is older than socket: fd, and cannot hand a socket over").
			WithHint("gapless upgrade brings it up to date")
	}
	return p, err
}

// Signal sends sig to the process group of id. SIGKILL also reaches every
// descendant that left the group. A process that has exited is no error: what
// is left of its group gets the signal.
func (c *Client) Signal(ctx context.Context, id string, sig syscall.Signal) error {
	return c.call(ctx, opSignal, signalArgs{id, int(sig)}, nil)
}

// List returns every process that keeper knows.
func (c *Client) List(ctx context.Context) (procs []Proc, err error) {
	err = c.call(ctx, opList, noArgs{}, &procs)
	return procs, err
}

// Forget drops an exited instance; what is left of its descendants is killed.
// The ID can then be started again. A running one is gapless.Conflict.
func (c *Client) Forget(ctx context.Context, id string) error {
	return c.call(ctx, opForget, idArgs{id}, nil)
}

// Put stores a small blob (at most 4 MiB, 16 keys) in keeper's memory. An
// empty value deletes the key.
func (c *Client) Put(ctx context.Context, key string, value []byte) error {
	return c.call(ctx, opPut, putArgs{key, value}, nil)
}

// Get returns a blob, or gapless.NotFound.
func (c *Client) Get(ctx context.Context, key string) (value []byte, err error) {
	err = c.call(ctx, opGet, keyArgs{key}, &value)
	return value, err
}

// NewEdge starts one more edge generation, which is from then on the one that
// is restarted. If it cannot be started, the old one stays the newest.
func (c *Client) NewEdge(ctx context.Context) (generation int, err error) {
	var r genArgs
	err = c.call(ctx, opNewEdge, noArgs{}, &r)
	return r.Generation, err
}

// Retire says that an edge generation is not restarted when it exits.
func (c *Client) Retire(ctx context.Context, generation int) error {
	return c.call(ctx, opRetire, genArgs{generation}, nil)
}

// Shutdown stops edges and daemon, then every instance: SIGTERM, at most
// grace (an instance's own Spec.Grace if that is shorter), SIGKILL. It
// returns when only keeper is left, which then ends too.
func (c *Client) Shutdown(ctx context.Context, grace time.Duration) error {
	return c.call(ctx, opShutdown, graceArgs{int64(grace)}, nil)
}

// Listener returns a duplicate of the listening socket that keeper holds.
func (c *Client) Listener(ctx context.Context, addr string) (net.Listener, error) {
	for end := time.Now().Add(c.patience); ; pause(ctx, redialPause) {
		ln, err := c.listener(ctx, addr)
		if err == nil || !c.again(opListener, err) || time.Now().After(end) || ctx.Err() != nil {
			return ln, err
		}
	}
}

func (c *Client) listener(ctx context.Context, addr string) (net.Listener, error) {
	// A connection of its own, so that the descriptor cannot be mistaken for
	// another answer's.
	conn, err := dial(ctx, c.socket)
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { conn.SetDeadline(time.Unix(1, 0)) })()
	if err := send(conn, 1, opListener, addrArgs{addr}); err != nil {
		return nil, errors.Join(ctx.Err(), errLost, err)
	}
	f, err := receiveFile(conn)
	if err != nil {
		return nil, errors.Join(ctx.Err(), err)
	}
	defer f.Close()
	ln, err := net.FileListener(f)
	if err != nil {
		return nil, fmt.Errorf("use the socket of %s: %w", addr, err)
	}
	return ln, nil
}

// Upgrade makes keeper run another binary, in the same process and with all
// that it holds. It returns when the new one answers, or with the reason why
// the old one goes on. gapless.Unsupported: this keeper is older than that.
func (c *Client) Upgrade(ctx context.Context, path string) error {
	err := c.call(ctx, opUpgrade, pathArgs{path}, nil)
	if err != nil && !errors.Is(err, errLost) {
		return err
	}
	for ; ; pause(ctx, redialPause) { // it is another program now
		var now *Client
		if now, err = Dial(ctx, c.socket); err != nil {
			if ctx.Err() != nil {
				return gapless.Errorf(gapless.Unavailable, "keeper does not answer after its upgrade: %w", err)
			}
			continue
		}
		info, err := now.Hello(ctx)
		now.Close()
		switch {
		case err == nil && info.Binary == path:
			return nil
		case err == nil:
			return gapless.Errorf(gapless.Unavailable, "%s could not take over from keeper; %s goes on", path, info.Binary)
		case ctx.Err() != nil:
			return gapless.Errorf(gapless.Unavailable, "keeper does not answer after its upgrade: %w", err)
		}
	}
}

// Watch returns the present list and then every start and exit. The channel
// is closed when ctx or the client ends, keeper is gone, or the receiver was
// so slow that something would have been missed: watch again.
func (c *Client) Watch(ctx context.Context) (<-chan Proc, error) {
	conn, err := dial(ctx, c.socket)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(ctx)
	stop := context.AfterFunc(c.life, cancel)
	context.AfterFunc(ctx, func() { conn.Close() })
	r := bufio.NewReader(conn)
	if err = send(conn, 1, opWatch, noArgs{}); err == nil {
		err = receive(r, nil) // from here on nothing is missed
	}
	if err != nil {
		err = errors.Join(ctx.Err(), err)
		stop()
		cancel()
		return nil, err
	}
	ch := make(chan Proc)
	go func() {
		defer close(ch)
		defer stop()
		defer cancel()
		for {
			var p Proc
			if err := receive(r, &p); err != nil {
				return
			}
			select {
			case ch <- p:
			case <-ctx.Done():
				return
			}
		}
	}()
	return ch, nil
}

func (c *link) call(ctx context.Context, op string, args, result any) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	ch := make(chan answer, 1)
	c.mu.Lock()
	c.next++
	id := c.next
	c.pending[id] = ch
	c.mu.Unlock()
	defer func() {
		c.mu.Lock()
		delete(c.pending, id)
		c.mu.Unlock()
	}()

	c.write.Lock()
	err := send(c.conn, id, op, args)
	c.write.Unlock()
	if err != nil {
		return c.lost(err)
	}
	select {
	case a := <-ch:
		return a.into(result)
	case <-ctx.Done():
		return ctx.Err()
	case <-c.life.Done():
		// The answer may have come with the last bytes.
		select {
		case a := <-ch:
			return a.into(result)
		default:
			return context.Cause(c.life)
		}
	}
}

// lost ends the link after a failed write: half a request may be on the wire.
func (c *link) lost(err error) error {
	if errors.Is(err, errLineTooLong) {
		return gapless.Errorf(gapless.Invalid, "request to keeper: %w", err)
	}
	c.end(gapless.Errorf(gapless.Unavailable, "keeper does not answer: %w", fmt.Errorf("%w: %w", errLost, err)))
	c.conn.Close()
	return context.Cause(c.life)
}

// read hands answers to those who wait for them. An answer that nobody waits
// for any more is dropped.
func (c *link) read() {
	r := bufio.NewReader(c.conn)
	for {
		var a answer
		line, err := readLine(r)
		if err == nil {
			err = json.Unmarshal(line, &a)
		}
		if err != nil {
			c.lost(err)
			return
		}
		c.mu.Lock()
		ch := c.pending[a.ID]
		delete(c.pending, a.ID)
		c.mu.Unlock()
		if ch != nil {
			ch <- a
		}
	}
}

func (a answer) err() error {
	switch {
	case a.Error == nil:
		return nil
	case a.Errno == 0:
		return a.Error
	}
	return remoteError{a.Error, a.Errno}
}

func (a answer) into(result any) error {
	if err := a.err(); err != nil {
		return err
	}
	if result == nil {
		return nil
	}
	if err := json.Unmarshal(a.Result, result); err != nil {
		return fmt.Errorf("answer of keeper: %w", err)
	}
	return nil
}

func send(conn *net.UnixConn, id uint64, op string, args any) error {
	line, err := encodeLine(struct { // request, encoded in one go
		V    int    `json:"v"`
		ID   uint64 `json:"id"`
		Op   string `json:"op"`
		Args any    `json:"args"`
	}{since(op, args), id, op, args})
	if err != nil {
		return err
	}
	conn.SetWriteDeadline(time.Now().Add(writeTimeout))
	_, err = conn.Write(line)
	return err
}

func receive(r *bufio.Reader, result any) error {
	line, err := readLine(r)
	if err != nil {
		return err
	}
	var a answer
	if err := json.Unmarshal(line, &a); err != nil {
		return err
	}
	return a.into(result)
}

// receiveFile reads one answer and the descriptor that came with it.
func receiveFile(conn *net.UnixConn) (*os.File, error) {
	buf := make([]byte, 16<<10)
	oob := make([]byte, syscall.CmsgSpace(4))
	n, oobn, _, _, err := conn.ReadMsgUnix(buf, oob)
	if err != nil {
		return nil, gapless.Errorf(gapless.Unavailable, "keeper does not answer: %w", fmt.Errorf("%w: %w", errLost, err))
	}
	var fds []int
	msgs, err := syscall.ParseSocketControlMessage(oob[:oobn])
	if err != nil {
		return nil, fmt.Errorf("descriptor from keeper: %w", err)
	}
	for _, m := range msgs {
		got, err := syscall.ParseUnixRights(&m)
		if err != nil {
			return nil, fmt.Errorf("descriptor from keeper: %w", err)
		}
		fds = append(fds, got...)
	}
	var a answer
	if err := json.Unmarshal(buf[:n], &a); err != nil {
		closeAll(fds)
		return nil, fmt.Errorf("answer of keeper: %w", err)
	}
	if err := a.err(); err != nil {
		closeAll(fds)
		return nil, err
	}
	if len(fds) != 1 {
		closeAll(fds)
		return nil, fmt.Errorf("keeper sent %d descriptors, not one", len(fds))
	}
	return os.NewFile(uintptr(fds[0]), "listener"), nil
}

func closeAll(fds []int) {
	for _, fd := range fds {
		syscall.Close(fd)
	}
}
