package edge

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"sync"
	"time"

	"gapless"
)

// The control protocol: one JSON object per line each way, over a unix
// socket. The envelope is strict (a field or version that is not known is
// refused); inside a table unknown fields are left alone, so that a daemon
// one version ahead can still drain this edge.
const (
	controlVersion = 1
	maxLine        = 16 << 20 // bytes of one message
)

// request is one message to an edge.
type request struct {
	V     int             `json:"v"`
	Op    string          `json:"op"`            // "apply", "report", "watch", "renew", "drain"
	App   string          `json:"app,omitempty"` // of renew
	Table json.RawMessage `json:"table,omitempty"`

	Kept   map[string]uint64        `json:"kept,omitempty"`   // of watch, per app: evidence of this process's reports up to here is kept
	Judged map[string]time.Duration `json:"judged,omitempty"` // of watch, per app: when its candidate was judged, in Clock

	Limits map[string]gapless.LatencyLimits `json:"limits,omitempty"` // of watch, per app: ages from which on a request is slow; Version 0: none. Only for edges that report Paced
}

// response is what an edge says to one request.
type response struct {
	V      int                 `json:"v"`
	Error  *gapless.Error      `json:"error,omitempty"`
	Report *gapless.EdgeReport `json:"report,omitempty"`
	News   []string            `json:"news,omitempty"` // to watch: apps because of which the report did not wait for its time
	next
}

// message is a table on its way to an edge.
type message struct {
	gapless.Table
	next
}

type control struct {
	edge    *Edge
	l       net.Listener
	mu      sync.Mutex
	open    map[net.Conn]struct{}
	streams sync.WaitGroup
	closing chan struct{} // the edge ends: whoever watches gets a last report
}

// listenControl makes the control socket. One that a dead edge of the same
// generation left is replaced; a live one is an error.
func (e *Edge) listenControl() (*control, error) {
	path := e.cfg.Socket
	if c, err := net.Dial("unix", path); err == nil {
		c.Close()
		return nil, gapless.Errorf(gapless.Conflict, "listen on %s: another edge of this generation answers there", path)
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("remove old control socket: %w", err)
	}
	l, err := net.Listen("unix", path)
	if err != nil {
		return nil, fmt.Errorf("listen on control socket: %w", err)
	}
	if err := os.Chmod(path, 0o600); err != nil {
		l.Close()
		return nil, fmt.Errorf("protect control socket: %w", err)
	}
	return &control{edge: e, l: l, open: map[net.Conn]struct{}{}, closing: make(chan struct{})}, nil
}

func (s *control) serve() {
	for {
		c, err := s.l.Accept()
		if err != nil {
			return
		}
		s.mu.Lock()
		s.open[c] = struct{}{}
		s.mu.Unlock()
		go s.talk(c)
	}
}

func (s *control) close() {
	s.l.Close() // removes the socket, too
	s.mu.Lock()
	close(s.closing)
	for c := range s.open {
		c.SetWriteDeadline(time.Now().Add(lastWord))
	}
	s.mu.Unlock()
	s.streams.Wait() // and whoever asked for the drain is answered
	s.mu.Lock()
	defer s.mu.Unlock()
	for c := range s.open {
		c.Close()
	}
}

func (s *control) talk(c net.Conn) {
	defer func() {
		c.Close()
		s.mu.Lock()
		delete(s.open, c)
		s.mu.Unlock()
	}()
	r := bufio.NewReader(c)
	for {
		line, err := readLine(r)
		if err != nil && !errors.Is(err, errTooLong) {
			return
		}
		if err == nil && s.watches(c, r, line) {
			return
		}
		if !s.begin() {
			return
		}
		ok := s.answer(c, line, err)
		s.streams.Done()
		if !ok {
			return
		}
	}
}

// begin reports whether a message is answered still; it is then waited for.
func (s *control) begin() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	select {
	case <-s.closing:
		return false
	default:
	}
	s.streams.Add(1)
	return true
}

// answer does what a message says, if it could be read. It reports whether
// another one may follow.
func (s *control) answer(c net.Conn, line []byte, err error) bool {
	res := response{V: controlVersion, next: nextFields()}
	if err == nil {
		err = s.do(line, &res)
	}
	tooLong := errors.Is(err, errTooLong)
	if err != nil {
		res.Error = asError(err)
	}
	b, err := json.Marshal(res)
	if err != nil {
		return false
	}
	_, err = c.Write(append(b, '\n'))
	return err == nil && !tooLong
}

func decodeRequest(line []byte) (req request, err error) {
	d := json.NewDecoder(bytes.NewReader(line))
	d.DisallowUnknownFields()
	if err := d.Decode(&req); err != nil {
		return req, gapless.Errorf(gapless.Invalid, "read message to the edge: %w", err)
	}
	if req.V != controlVersion {
		return req, gapless.Errorf(gapless.Unsupported, "the edge speaks control version %d, not %d", controlVersion, req.V)
	}
	return req, nil
}

func (s *control) do(line []byte, res *response) error {
	req, err := decodeRequest(line)
	if err != nil {
		return err
	}
	switch req.Op {
	case "apply":
		t, err := decodeTable(req.Table)
		if err != nil {
			return err
		}
		return s.edge.apply(s.edge.ctx, t.Table)
	case "report":
		r := s.edge.report()
		res.Report = &r
		return nil
	case "renew":
		return s.edge.renew(req.App, Clock())
	case "drain":
		s.edge.Drain()
		return nil
	}
	return gapless.Errorf(gapless.Invalid, "the edge knows apply, report, watch, renew and drain, not %q", req.Op)
}

func asError(err error) *gapless.Error {
	var g *gapless.Error
	if errors.As(err, &g) {
		return g
	}
	return gapless.Errorf(gapless.Internal, "%w", err)
}

var errTooLong = gapless.Errorf(gapless.Invalid, "message is longer than %d bytes", maxLine)

// readLine reads one message of bounded size.
func readLine(r *bufio.Reader) ([]byte, error) {
	var line []byte
	for {
		part, err := r.ReadSlice('\n')
		if len(line)+len(part) > maxLine {
			return nil, errTooLong
		}
		line = append(line, part...)
		switch {
		case err == nil:
			return line, nil
		case errors.Is(err, bufio.ErrBufferFull):
		case errors.Is(err, io.EOF) && len(line) > 0:
			return nil, io.ErrUnexpectedEOF
		default:
			return nil, err
		}
	}
}
