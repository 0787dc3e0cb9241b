package load

import (
	"crypto/rand"
	"crypto/sha1"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"
)

const (
	echoEvery = 100 * time.Millisecond
	// goodbye bounds the wait for the other side's part of a closing handshake.
	goodbye = 2 * time.Second

	opText, opClose, opPing, opPong = 1, 8, 9, 10
	goingAway                       = 1001
	abnormal                        = 1006 // no close frame came
	noStatus                        = 1005 // a close frame without a code
)

// webSocket opens one WebSocket, sends a numbered message every 100 ms and
// verifies every echo until the server closes it or the run stops. It records
// the outcome and returns what was wrong.
func (r *Run) webSocket(client int) error {
	s := Sample{Kind: WebSocket, Start: time.Now()}
	s.Due = s.Start
	before := r.allowed()
	c, greeting, err := r.upgrade(&s)
	if err != nil {
		r.end(s, err)
		return err
	}
	defer c.Close()
	s.Latency = time.Since(s.Due)
	r.rec.open(WebSocket, +1)
	defer r.rec.open(WebSocket, -1)

	e := &echo{run: r, conn: c, sample: &s, prefix: fmt.Sprintf("%d-", client)}
	if err = r.checkRelease(greeting, before); err == nil {
		err = e.talk()
	}
	r.end(s, err)
	return err
}

// upgrade dials and shakes hands; it returns the release that answered.
func (r *Run) upgrade(s *Sample) (*conn, string, error) {
	c, err := r.dial(s.Start.Add(r.cfg.Timeout))
	if err != nil {
		return nil, "", err
	}
	resp, err := c.shakeHands(r.cfg.Host)
	if resp != nil {
		s.Status, s.Release, s.Instance = resp.StatusCode, resp.Header.Get("X-Release"), resp.Header.Get("X-Instance")
	}
	if err != nil {
		c.Close()
		return nil, "", err
	}
	c.SetDeadline(time.Time{})
	return c, s.Release, nil
}

func (c *conn) shakeHands(host string) (*http.Response, error) {
	var nonce [16]byte
	rand.Read(nonce[:])
	key := base64.StdEncoding.EncodeToString(nonce[:])
	_, err := io.WriteString(c, "GET /ws HTTP/1.1\r\nHost: "+host+"\r\nUser-Agent: gapless-load\r\n"+
		"Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: "+key+"\r\n\r\n")
	if err != nil {
		return nil, fmt.Errorf("write handshake: %w", err)
	}
	resp, err := c.head("GET")
	if err != nil {
		return nil, err
	}
	if resp.StatusCode != http.StatusSwitchingProtocols {
		return resp, badStatus(resp.StatusCode)
	}
	sum := sha1.Sum([]byte(key + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"))
	if resp.Header.Get("Sec-Websocket-Accept") != base64.StdEncoding.EncodeToString(sum[:]) {
		return resp, failf(Malformed, "the handshake's Sec-WebSocket-Accept is wrong")
	}
	return resp, nil
}

// echo is one open WebSocket.
type echo struct {
	run    *Run
	conn   *conn
	sample *Sample
	prefix string

	sent, heard int
	times       []time.Time // when the unanswered messages were sent
	readErr     error       // why frames was closed
}

// talk runs the conversation to its end and returns what was wrong with it.
func (e *echo) talk() error {
	frames := make(chan frame, 16)
	left := make(chan struct{})
	defer close(left)
	go e.read(frames, left)
	tick := time.NewTicker(echoEvery)
	defer tick.Stop()
	stop := e.run.stop
	for {
		select {
		case <-stop:
			// Finish what was begun, then say goodbye.
			stop = nil
			if len(e.times) == 0 {
				return e.leave(frames)
			}
		case <-tick.C:
			if len(e.times) > 0 && time.Since(e.times[0]) > e.run.cfg.Timeout {
				return failf(Hang, "no echo of message %d", e.heard+1)
			}
			if stop == nil {
				continue
			}
			e.sent++
			e.times = append(e.times, time.Now())
			// A failed write is not the verdict: the reader finds out how it ended.
			e.conn.write(opText, []byte(fmt.Sprint(e.prefix, e.sent)))
		case f, ok := <-frames:
			if !ok {
				return e.ended(e.readErr)
			}
			if f.op == opClose {
				return e.closedByServer(f)
			}
			if err := e.hear(f); err != nil {
				return err
			}
			if stop == nil && len(e.times) == 0 {
				return e.leave(frames)
			}
		}
	}
}

// hear checks one message. The first may be a greeting of the server.
func (e *echo) hear(f frame) error {
	text := string(f.payload)
	if e.heard == 0 && strings.HasPrefix(text, "hello ") {
		return nil
	}
	want := fmt.Sprint(e.prefix, e.heard+1)
	if f.op != opText || text != want || len(e.times) == 0 {
		return failf(WrongBody, "echo %.80q, want %q", text, want)
	}
	e.heard++
	e.times = e.times[1:]
	e.sample.Messages++
	e.sample.Bytes += int64(len(text))
	return nil
}

// closedByServer ends a WebSocket that the server closed with a close frame.
func (e *echo) closedByServer(f frame) error {
	code := noStatus
	if len(f.payload) >= 2 {
		code = int(binary.BigEndian.Uint16(f.payload))
	}
	e.sample.Code = code
	e.conn.write(opClose, f.payload)
	if code != goingAway {
		return &failure{class: fmt.Sprintf("ws_%d", code), code: code, cause: fmt.Errorf("closed by the server with code %d", code)}
	}
	e.sample.Unheard = len(e.times)
	return nil
}

// ended is the verdict on a WebSocket that ended without a close frame.
func (e *echo) ended(err error) error {
	if f := (*failure)(nil); errors.As(err, &f) {
		return err
	}
	return &failure{class: fmt.Sprintf("ws_%d", abnormal), code: abnormal, cause: fmt.Errorf("ended without a close frame: %w", err)}
}

// leave closes the WebSocket from our side. How the server answers that is
// not judged.
func (e *echo) leave(frames <-chan frame) error {
	e.sample.Code = 1000
	e.conn.write(opClose, []byte{1000 >> 8, 1000 & 0xff})
	e.conn.SetReadDeadline(time.Now().Add(goodbye))
	for f := range frames {
		if f.op == opClose {
			break
		}
	}
	return nil
}

// read passes messages and the close frame on, answers pings, and closes
// frames at the end of the connection.
func (e *echo) read(frames chan<- frame, left <-chan struct{}) {
	defer close(frames)
	for {
		f, err := e.conn.readFrame()
		if err != nil {
			e.readErr = err
			return
		}
		switch f.op {
		case opPing:
			e.conn.write(opPong, f.payload)
			continue
		case opPong:
			continue
		}
		select {
		case frames <- f:
		case <-left:
			return
		}
	}
}
