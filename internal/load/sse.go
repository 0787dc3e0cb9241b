package load

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strconv"
	"strings"
	"time"
)

// eventStream keeps one stream of numbered events open until the server ends
// it or the run stops. It records the outcome and returns what was wrong.
func (r *Run) eventStream() error {
	s := Sample{Kind: SSE, Start: time.Now()}
	s.Due = s.Start
	before := r.allowed()
	c, err := r.dial(s.Start.Add(r.cfg.Timeout))
	if err != nil {
		r.end(s, err)
		return err
	}
	defer c.Close()
	resp, err := r.openEvents(c, &s)
	if err == nil {
		err = r.checkRelease(s.Release, before)
	}
	if err != nil {
		r.end(s, err)
		return err
	}
	s.Latency = time.Since(s.Due)
	r.rec.open(SSE, +1)
	defer r.rec.open(SSE, -1)
	err = r.readEvents(c, resp, &s)
	r.end(s, err)
	return err
}

func (r *Run) openEvents(c *conn, s *Sample) (*http.Response, error) {
	_, err := io.WriteString(c, "GET /events HTTP/1.1\r\nHost: "+r.cfg.Host+
		"\r\nUser-Agent: gapless-load\r\nAccept: text/event-stream\r\n\r\n")
	if err != nil {
		return nil, fmt.Errorf("write request: %w", err)
	}
	resp, err := c.head("GET")
	if err != nil {
		return nil, err
	}
	s.Status, s.Release, s.Instance = resp.StatusCode, resp.Header.Get("X-Release"), resp.Header.Get("X-Instance")
	switch {
	case resp.StatusCode != http.StatusOK:
		return nil, badStatus(resp.StatusCode)
	case resp.ContentLength < 0 && len(resp.TransferEncoding) == 0:
		return nil, failf(Malformed, "an event stream without framing: its end cannot be verified")
	case !strings.HasPrefix(resp.Header.Get("Content-Type"), "text/event-stream"):
		return nil, failf(WrongBody, "content type %q", resp.Header.Get("Content-Type"))
	}
	return resp, nil
}

// readEvents verifies that the events are "<n> <release>" with n = 1, 2, 3, …
// A clean end of the body is fine, wherever it comes.
func (r *Run) readEvents(c *conn, resp *http.Response, s *Sample) error {
	ours := make(chan struct{})
	defer close(ours)
	go func() {
		select {
		case <-r.stop:
			c.SetReadDeadline(time.Unix(1, 0)) // wake the reader
		case <-ours:
		}
	}()
	in := bufio.NewReader(resp.Body)
	for {
		c.SetReadDeadline(time.Now().Add(r.cfg.Timeout))
		if r.stopped() {
			return nil
		}
		line, err := in.ReadString('\n')
		s.Bytes += int64(len(line))
		switch {
		case errors.Is(err, os.ErrDeadlineExceeded) && r.stopped():
			return nil
		case errors.Is(err, io.EOF) && line == "": // io.ErrUnexpectedEOF is another error
			return nil
		case errors.Is(err, io.EOF):
			return failf(Truncated, "the stream ended within the line %.80q", line)
		case err != nil:
			return fmt.Errorf("read events: %w", err)
		}
		data, ok := strings.CutPrefix(strings.TrimRight(line, "\r\n"), "data: ")
		if !ok {
			continue
		}
		number, release, _ := strings.Cut(data, " ")
		if s.Release == "" {
			s.Release = release
		}
		if number != strconv.Itoa(s.Messages+1) || release != s.Release {
			return failf(WrongBody, "event %.80q of release %s, want number %d", data, s.Release, s.Messages+1)
		}
		s.Messages++
	}
}
