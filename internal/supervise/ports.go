package supervise

import (
	"math/rand/v2"
	"net"
	"strconv"
	"sync"

	"gapless"
)

// Ports of instances lie below the range that the kernel takes outgoing ports
// from (32768 and up), so that no connection takes one between check and use.
const (
	firstPort = 20000
	lastPort  = 32767
)

// ports hands out free TCP ports, each to one process at a time. It goes
// round the range, so a port just given back rests before it is used again.
type ports struct {
	mu   sync.Mutex
	next int
	held map[int]bool
}

func newPorts() *ports {
	return &ports{next: firstPort + rand.IntN(lastPort-firstPort+1), held: map[int]bool{}}
}

// take returns a port that nobody listens on and that is not held.
func (p *ports) take() (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for range lastPort - firstPort + 1 {
		port := p.next
		if p.next++; p.next > lastPort {
			p.next = firstPort
		}
		if !p.held[port] && portFree(port) {
			p.held[port] = true
			return port, nil
		}
	}
	return 0, gapless.Errorf(gapless.Unavailable, "no free port between %d and %d", firstPort, lastPort)
}

// hold marks the port of a process that was adopted.
func (p *ports) hold(port int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.held[port] = true
}

func (p *ports) give(port int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.held, port)
}

// portFree binds the port on every IPv4 and IPv6 address at once, which fails
// if anybody listens on any of them; then on the IPv4 loopback alone, for
// systems where the first one is IPv6 only.
func portFree(port int) bool {
	for _, host := range []string{"", "127.0.0.1"} {
		l, err := net.Listen("tcp", net.JoinHostPort(host, strconv.Itoa(port)))
		if err != nil {
			return false
		}
		l.Close()
	}
	return true
}
