package edge

import (
	"cmp"
	"context"
	"log/slog"
	"net"
	"time"

	"gapless"
)

// Host is what an edge needs from the process that holds its sockets.
type Host interface {
	// Listener returns a duplicate of the held listening socket for addr.
	// Closing it does not close the socket for others.
	Listener(ctx context.Context, addr string) (net.Listener, error)
	// Save stores the last table, so that a restarted edge serves at once.
	Save(ctx context.Context, table []byte) error
	// Load returns what Save stored last, nil if nothing was.
	Load(ctx context.Context) ([]byte, error)
}

// Config is how one edge generation runs. Host and Socket are required;
// every limit has a safe default when it is zero.
type Config struct {
	Generation int
	Socket     string // path of the control socket; made with mode 0600
	Host       Host
	Log        *slog.Logger
	TLS        TLSFiles

	HeaderTimeout  time.Duration // from the first byte of a request head to its last; 30 s
	IdleTimeout    time.Duration // of a client's kept connection; 75 s, longer than common load balancers keep theirs
	BodyTimeout    time.Duration // without a byte of a request body; 60 s
	WriteTimeout   time.Duration // for the client to take what it is sent, up to 512 KiB; 2 min
	AnswerTimeout  time.Duration // from the request to the head of the answer; 5 min
	ConnectTimeout time.Duration // to an instance; 3 s
	UpstreamIdle   time.Duration // of a kept connection to an instance; 4 s, shorter than the 5 s of Node.js
	DrainTimeout   time.Duration // of this generation, and of instances that leave the table without a deadline; 30 s
	DrainGrace     time.Duration // for idle kept connections when this generation drains; 1.5 s
	MaxConnections int           // from clients; 50000
	MaxHeld        int           // requests waiting at once because nothing is ready; 2048
	MaxHandshakes  int           // of TLS, at once; 1024
	HandshakeTime  time.Duration // of TLS, from the connection on; 10 s
	MaxBody        int64         // bytes of a request body; 0: no limit
	MirrorQueue    int           // copies of an app's requests at once, being made, waiting and sent; 256
	MirrorBytes    int64         // that these hold; 8 MiB
	MirrorSenders  int           // of these being sent; 16
	Memory         int64         // bytes that requests may hold in buffers; a quarter of what the process may use, 64 MiB to 4 GiB
	Loops          int           // threads that serve plain HTTP/1.1 by epoll, on Linux; 0: half as many as processors; below 0: none, a goroutine serves each connection
}

// InForce is c with the defaults of what it leaves open.
func (c Config) InForce() Config { return c.withDefaults() }

func (c Config) withDefaults() Config {
	t := gapless.Timeouts{}.InForce()
	c.HeaderTimeout = cmp.Or(c.HeaderTimeout, t.Head.Std())
	c.IdleTimeout = cmp.Or(c.IdleTimeout, t.Idle.Std())
	c.BodyTimeout = cmp.Or(c.BodyTimeout, t.Body.Std())
	c.WriteTimeout = cmp.Or(c.WriteTimeout, t.Write.Std())
	c.AnswerTimeout = cmp.Or(c.AnswerTimeout, t.Answer.Std())
	c.ConnectTimeout = cmp.Or(c.ConnectTimeout, 3*time.Second)
	c.UpstreamIdle = cmp.Or(c.UpstreamIdle, 4*time.Second)
	c.DrainTimeout = cmp.Or(c.DrainTimeout, 30*time.Second)
	c.DrainGrace = cmp.Or(c.DrainGrace, 1500*time.Millisecond)
	c.MaxConnections = cmp.Or(c.MaxConnections, 50_000)
	c.MaxHeld = cmp.Or(c.MaxHeld, 2048)
	c.MirrorQueue = cmp.Or(c.MirrorQueue, 256)
	c.MirrorBytes = cmp.Or(c.MirrorBytes, 8<<20)
	c.MirrorSenders = cmp.Or(c.MirrorSenders, 16)
	c.MaxHandshakes = cmp.Or(c.MaxHandshakes, 1024)
	c.HandshakeTime = cmp.Or(c.HandshakeTime, 10*time.Second)
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	return c
}
