package edge

import (
	"fmt"
	"net"
	"net/netip"
	"os"
	"runtime"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// loop is the second driver: one thread that serves plain HTTP/1.1 by epoll.
// It calls the same core as the goroutines do, and takes what is ordinary
// from the first byte to the last: a request whose body is small, an instance
// that answers, a client that takes the answer. Whatever would have to wait
// for anything else (holding, another try, a protocol that changes, a large
// or endless body, a client that reads slowly, a refusal) it hands over to a
// goroutine, at the point where the exchange is, and gets the connection back
// afterwards. So it never blocks, keeps no queues, and decides nothing itself.
type loop struct {
	edge *Edge
	id   int
	ep   int
	bell int   // eventfd
	now  int64 // edge clock, when the events at hand came

	socks   []sock // by descriptor
	count   uint32 // of sockets so far: tells one from an earlier one with its descriptor
	clients atomic.Int64
	small   int // clients in phase collecting
	sweepAt int64
	quiet   int // waits in a row that brought nothing
	in, out []byte
	batch   batch
	kept    []*exchange // free, with their buffers
	events  [256]unix.EpollEvent
	watch   watch // nobody looks at it: what is overdue is found by sweep
	doors   []*door
	name    unix.RawSockaddrInet6

	mu      sync.Mutex
	posted  []func()
	rung    atomic.Bool
	stopped bool
	ended   chan struct{}
}

// sock is what a descriptor of the loop is.
type sock struct {
	count uint32
	c     *loopClient
	u     *loopUpstream
	d     *door
}

// door is a listening socket.
type door struct {
	fd    int
	l     *listener
	port  string
	shut  bool // accepting failed: not before the next sweep
	count uint32
}

const (
	// rawWait is how long the thread waits in epoll_wait without telling Go's
	// scheduler, in ms: under the 10 ms after which the scheduler sends a
	// signal to whoever does not let go. A garbage collection that wants the
	// thread to stop sends one at once: the wait ends with EINTR, and the next
	// function call is a safe point. Measured at 500 requests/s: telling the
	// scheduler costs half as much again per request, and yielding every 5 ms
	// an eighth, because it wakes another thread each time.
	rawWait = 8
	// quietWaits in a row that brought nothing let it wait in a way that the
	// scheduler knows of, which needs no signals and nothing to wake up for.
	quietWaits = 3

	sweepEvery  = 500 * int64(time.Millisecond)
	sweepSoon   = 100 * int64(time.Millisecond)
	collectFor  = 100 * int64(time.Millisecond) // for the rest of a small body, before a goroutine waits for it
	acceptBatch = 16
	scratch     = 64 << 10
	readBudget  = 16 // reads of one answer in a row
	clockEvery  = 16 // events
	keptMost    = 64 // exchanges
	unbalanced  = 16 // clients more than another loop has, before it gets new ones
)

// startLoops starts the threads that cfg asks for.
func (e *Edge) startLoops() error {
	n := e.cfg.Loops
	if n == 0 {
		n = max(1, min(runtime.NumCPU()/2, 16))
	}
	if n < 0 {
		return nil
	}
	for id := range n {
		l, err := newLoop(e, id)
		if err != nil {
			for _, l := range e.loops { // none runs yet
				unix.Close(l.ep)
				unix.Close(l.bell)
			}
			e.loops = nil
			return fmt.Errorf("start epoll loop: %w", err)
		}
		e.loops = append(e.loops, l)
	}
	// A thread that waits raw keeps its place in Go's scheduler: the others
	// need as many as there are processors beside it.
	procs.add(n)
	for _, l := range e.loops {
		go l.run()
	}
	return nil
}

// stopLoops cuts what the loops still have and ends them.
func (e *Edge) stopLoops() {
	for _, l := range e.loops {
		l.post(l.stop)
		<-l.ended
	}
	procs.add(-len(e.loops))
}

// procs counts the loops of all edges of this process.
var procs processors

type processors struct {
	mu    sync.Mutex
	loops int
	base  int
}

func (p *processors) add(n int) {
	if n == 0 {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.loops == 0 {
		p.base = runtime.GOMAXPROCS(0)
	}
	p.loops += n
	runtime.GOMAXPROCS(p.base + p.loops)
}

func newLoop(e *Edge, id int) (*loop, error) {
	l := &loop{
		edge: e, id: id, in: make([]byte, answerRoom+scratch), out: make([]byte, 0, scratch+bufferSize+maxHead),
		kept:  make([]*exchange, 0, keptMost),
		ended: make(chan struct{}),
	}
	l.batch.in, l.batch.out = make([]byte, batchRoom), make([]byte, 0, batchRoom)
	var err error
	if l.ep, err = unix.EpollCreate1(unix.EPOLL_CLOEXEC); err != nil {
		return nil, err
	}
	if l.bell, err = unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK); err != nil {
		unix.Close(l.ep)
		return nil, err
	}
	if err = unix.EpollCtl(l.ep, unix.EPOLL_CTL_ADD, l.bell, &unix.EpollEvent{Events: unix.EPOLLIN, Fd: int32(l.bell)}); err != nil {
		unix.Close(l.ep)
		unix.Close(l.bell)
		return nil, err
	}
	return l, nil
}

// post lets the loop call f. false: it has ended.
func (l *loop) post(f func()) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.stopped {
		return false
	}
	l.posted = append(l.posted, f)
	if !l.rung.Swap(true) {
		one := [8]byte{1}
		unix.Write(l.bell, one[:])
	}
	return true
}

func (l *loop) answerBell() {
	var b [8]byte
	unix.Read(l.bell, b[:])
	l.rung.Store(false)
	l.mu.Lock()
	list := l.posted
	l.posted = nil
	l.mu.Unlock()
	for _, f := range list {
		f()
	}
}

func (l *loop) run() {
	defer close(l.ended)
	for !l.stopped {
		n := l.wait()
		l.now = l.edge.now()
		l.serve(l.events[:n])
		if l.now >= l.sweepAt {
			l.sweep()
		}
	}
	unix.Close(l.ep)
	unix.Close(l.bell)
}

// sockOf is what an event is about; nil: it was closed while its event was on the way.
func (l *loop) sockOf(ev *unix.EpollEvent) *sock {
	if int(ev.Fd) >= len(l.socks) {
		return nil
	}
	s := &l.socks[ev.Fd]
	if s.count != uint32(ev.Pad) {
		return nil
	}
	return s
}

// wait returns how many events there are.
func (l *loop) wait() int {
	ms := max(0, (l.sweepAt-l.now)/int64(time.Millisecond)+1)
	if l.quiet < quietWaits {
		n, _, errno := syscall.RawSyscall6(unix.SYS_EPOLL_PWAIT, uintptr(l.ep), uintptr(unsafe.Pointer(&l.events[0])), uintptr(len(l.events)), uintptr(min(ms, rawWait)), 0, 0)
		if errno == 0 && n > 0 {
			l.quiet = 0
			return int(n)
		}
		if errno == 0 {
			l.quiet++
		}
		return 0
	}
	n, _, errno := syscall.Syscall6(unix.SYS_EPOLL_PWAIT, uintptr(l.ep), uintptr(unsafe.Pointer(&l.events[0])), uintptr(len(l.events)), uintptr(ms), 0, 0)
	if errno != 0 || n == 0 {
		return 0
	}
	l.quiet = 0
	return int(n)
}

// slot makes room for a descriptor and returns what tells it from others.
func (l *loop) slot(fd int, s sock) uint32 {
	if fd >= len(l.socks) {
		l.socks = append(l.socks, make([]sock, max(256, fd+fd/4+1-len(l.socks)))...)
	}
	l.count++
	s.count = l.count
	l.socks[fd] = s
	return l.count
}

func (l *loop) watchFor(fd int, count, events uint32) error {
	return epollCtl(l.ep, unix.EPOLL_CTL_ADD, fd, &unix.EpollEvent{Events: events, Fd: int32(fd), Pad: int32(count)})
}

// enter accepts on d from now on.
func (l *loop) enter(d *door) {
	own := *d
	own.count = l.slot(d.fd, sock{d: &own})
	l.doors = append(l.doors, &own)
	l.open(&own)
}

func (l *loop) open(d *door) {
	events := uint32(unix.EPOLLIN)
	if len(l.edge.loops) > 1 {
		events |= unix.EPOLLEXCLUSIVE // wakes one of them; alone it would only starve another generation
	}
	err := l.watchFor(d.fd, d.count, events)
	if d.shut = err != nil; d.shut {
		l.edge.log.Error("watch a listening socket", "listen", d.l.addr, "error", err)
	}
}

// exit accepts on fd no more.
func (l *loop) exit(fd int) {
	for k, d := range l.doors {
		if d.fd == fd {
			epollCtl(l.ep, unix.EPOLL_CTL_DEL, fd, nil)
			l.socks[fd] = sock{}
			l.doors = append(l.doors[:k:k], l.doors[k+1:]...)
			l.sweepAt = l.now // this generation may be draining
			return
		}
	}
}

func (l *loop) accept(d *door) {
	e := l.edge
	for range acceptBatch {
		size := uint32(unsafe.Sizeof(l.name))
		r, _, errno := syscall.RawSyscall6(unix.SYS_ACCEPT4, uintptr(d.fd), uintptr(unsafe.Pointer(&l.name)), uintptr(unsafe.Pointer(&size)), unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0, 0)
		switch {
		case errno == unix.EAGAIN:
			return
		case errno == unix.EINTR || errno == unix.ECONNABORTED:
			continue
		case errno != 0:
			// Mostly out of descriptors: connections wait in the queue meanwhile.
			e.log.Warn("accept failed", "listen", d.l.addr, "error", errno)
			epollCtl(l.ep, unix.EPOLL_CTL_DEL, d.fd, nil)
			d.shut = true
			l.sweepAt = min(l.sweepAt, l.now+sweepSoon)
			return
		}
		c := &loopClient{fd: int(r), door: d}
		c.from(&l.name)
		g, from := e.gateOf(d.l.addr), c.addr
		proxied := g.terms.Load().proxied(from)
		if proxied {
			from = netip.Addr{} // its header says whom it counts for
		}
		pass, o := e.admit(g, from)
		if o.status != 0 {
			e.turnAwayFD(c.fd, pass, o)
			continue
		}
		c.pass = pass
		if proxied {
			go e.serveProxiedFD(c.fd, d.l, pass)
			continue
		}
		if o := l.idler(); o != l {
			o.give(c)
			continue
		}
		l.clients.Add(1)
		l.begin(c)
	}
}

// idler is the loop that gets a new client: this one, unless another has far fewer.
func (l *loop) idler() *loop {
	best, has := l, l.clients.Load()-unbalanced
	for _, o := range l.edge.loops {
		if n := o.clients.Load(); n < has {
			best, has = o, n
		}
	}
	return best
}

// give lets the loop serve a client from elsewhere.
func (l *loop) give(c *loopClient) {
	l.clients.Add(1)
	if !l.post(func() { l.begin(c) }) {
		l.lose(c)
	}
}

// lose closes a client that the loop does not serve yet.
func (l *loop) lose(c *loopClient) {
	closeFD(c.fd)
	l.clients.Add(-1)
	l.edge.dismiss(c.pass)
}

// turnAwayFD is turnAway for a descriptor.
func (e *Edge) turnAwayFD(fd int, p pass, o own) {
	if e.mayRefuse() {
		go func() {
			nc, err := connOf(fd)
			if err != nil {
				e.refusing.Add(-1)
				e.dismiss(p)
				return
			}
			e.refuse(nc, p, o)
		}()
		return
	}
	unix.SetsockoptLinger(fd, unix.SOL_SOCKET, unix.SO_LINGER, &unix.Linger{Onoff: 1})
	closeFD(fd)
	e.dismiss(p)
}

// serveProxiedFD is serveProxied for a socket of a loop, which does not get it back.
func (e *Edge) serveProxiedFD(fd int, l *listener, pass pass) {
	nc, err := connOf(fd)
	if err != nil {
		e.dismiss(pass)
		return
	}
	e.serveProxied(nc, l, pass)
}

// connOf makes a connection of Go's of a socket, which it takes over.
func connOf(fd int) (net.Conn, error) {
	f := os.NewFile(uintptr(fd), "")
	defer f.Close()
	return net.FileConn(f)
}

// openDoors lets the loops accept on l, if they can.
func (e *Edge) openDoors(l *listener) bool {
	tcp, ok := l.Listener.(*net.TCPListener)
	if !ok || len(e.loops) == 0 {
		return false
	}
	raw, err := tcp.SyscallConn()
	if err != nil {
		return false
	}
	fd := -1
	raw.Control(func(s uintptr) {
		fd, err = unix.FcntlInt(s, unix.F_DUPFD_CLOEXEC, 0)
	})
	if err != nil || fd < 0 {
		e.log.Warn("copy a listening socket", "listen", l.addr, "error", err)
		return false
	}
	tcp.Close()                                                   // or Go's poller would be woken by every connection
	unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1) // its connections inherit it
	unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_KEEPALIVE, 1) // as Go's have it: clients that vanish are noticed
	unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_KEEPIDLE, 15)
	unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_KEEPINTVL, 15)
	d := &door{fd: fd, l: l, port: strconv.Itoa(tcp.Addr().(*net.TCPAddr).Port)}
	for _, o := range e.loops {
		o.post(func() { o.enter(d) })
	}
	l.leave = func() {
		for _, o := range e.loops {
			left := make(chan struct{})
			if o.post(func() { o.exit(fd); close(left) }) {
				<-left
			}
		}
		unix.Close(fd)
	}
	return true
}

// sweep finds what is overdue.
func (l *loop) sweep() {
	e := l.edge
	draining := e.draining.Load()
	l.sweepAt = l.now + sweepEvery
	for _, d := range l.doors {
		if d.shut {
			l.open(d)
		}
	}
	grace := e.graceOver()
	for fd := range l.socks {
		s := &l.socks[fd]
		switch {
		case s.c != nil:
			l.checkClient(s.c, grace)
		case s.u != nil && s.u.c == nil && l.now-s.u.since > int64(s.u.limit):
			l.drop(s.u)
		}
	}
	if draining || l.small > 0 {
		l.sweepAt = l.now + sweepSoon
	}
}

// stop cuts everything and ends the loop.
func (l *loop) stop() {
	for fd := range l.socks {
		switch s := &l.socks[fd]; {
		case s.c != nil && (s.c.phase == waiting || s.c.phase == relaying):
			l.end(s.c, aborted)
		case s.c != nil:
			l.close(s.c)
		}
	}
	for fd := range l.socks {
		if s := &l.socks[fd]; s.u != nil {
			l.drop(s.u)
		}
	}
	l.mu.Lock()
	l.stopped = true
	list := l.posted
	l.posted = nil
	l.mu.Unlock()
	for _, f := range list {
		f()
	}
}

func epollCtl(ep, op, fd int, ev *unix.EpollEvent) error {
	_, _, errno := syscall.RawSyscall6(unix.SYS_EPOLL_CTL, uintptr(ep), uintptr(op), uintptr(fd), uintptr(unsafe.Pointer(ev)), 0, 0)
	if errno != 0 {
		return errno
	}
	return nil
}

// receive reads without waiting. 0 bytes and no error: the other side has ended.
func receive(fd int, b []byte) (int, syscall.Errno) {
	for {
		n, _, errno := syscall.RawSyscall6(unix.SYS_RECVFROM, uintptr(fd), uintptr(unsafe.Pointer(&b[0])), uintptr(len(b)), 0, 0, 0)
		switch errno {
		case 0:
			return int(n), 0
		case unix.EINTR:
			continue
		}
		return 0, errno
	}
}

// transmit writes what can be written without waiting. An error that is not
// EAGAIN has nothing written.
func transmit(fd int, b []byte) (int, syscall.Errno) {
	for {
		n, _, errno := syscall.RawSyscall6(unix.SYS_SENDTO, uintptr(fd), uintptr(unsafe.Pointer(&b[0])), uintptr(len(b)), unix.MSG_NOSIGNAL|unix.MSG_DONTWAIT, 0, 0)
		switch errno {
		case 0:
			return int(n), 0
		case unix.EINTR:
			continue
		}
		return 0, errno
	}
}

// lookAt is look for a descriptor.
func lookAt(fd int) peer {
	var b [1]byte
	n, _, errno := syscall.RawSyscall6(unix.SYS_RECVFROM, uintptr(fd), uintptr(unsafe.Pointer(&b[0])), 1, unix.MSG_PEEK|unix.MSG_DONTWAIT, 0, 0)
	switch {
	case errno == unix.EAGAIN || errno == unix.EINTR:
		return quiet
	case errno != 0 || n == 0:
		return gone
	}
	return speaks
}

func closeFD(fd int) { syscall.RawSyscall(unix.SYS_CLOSE, uintptr(fd), 0, 0) }
