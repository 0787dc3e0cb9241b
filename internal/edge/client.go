package edge

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"sync"
	"time"

	"gapless"
)

// Client speaks to one edge generation over its control socket. Calls are
// served one at a time. After a call that failed on the connection, or whose
// context ended, every later call fails with code Unavailable: dial again.
type Client struct {
	mu     sync.Mutex
	c      net.Conn
	r      *bufio.Reader
	broken error
}

// Dial connects to the control socket of an edge.
func Dial(ctx context.Context, socket string) (*Client, error) {
	var d net.Dialer
	c, err := d.DialContext(ctx, "unix", socket)
	if err != nil {
		return nil, gapless.Errorf(gapless.Unavailable, "reach the edge at %s: %w", socket, err)
	}
	return &Client{c: c, r: bufio.NewReader(c)}, nil
}

// Apply makes the edge serve t. It returns after the host has stored t and
// all new requests are routed by it. The version that is served already is
// fine; an older one is an error with code Conflict, a table or listener that
// cannot be served one with code Invalid or Unavailable, and changes nothing.
func (c *Client) Apply(ctx context.Context, t gapless.Table) error {
	b, err := json.Marshal(message{t, nextFields()})
	if err != nil {
		return fmt.Errorf("write route table: %w", err)
	}
	_, err = c.call(ctx, request{Op: "apply", Table: b})
	return err
}

// Report returns what the edge serves, counts and has in flight.
func (c *Client) Report(ctx context.Context) (gapless.EdgeReport, error) {
	res, err := c.call(ctx, request{Op: "report"})
	if err != nil {
		return gapless.EdgeReport{}, err
	}
	if res.Report == nil {
		return gapless.EdgeReport{}, gapless.Errorf(gapless.Internal, "the edge sent no report")
	}
	return *res.Report, nil
}

// Renew says that somebody judges the candidate of an app. It is a Conflict
// if the edge went back to the fallback before.
func (c *Client) Renew(ctx context.Context, app string) error {
	_, err := c.call(ctx, request{Op: "renew", App: app})
	return err
}

// Drain makes the edge stop accepting and exit when nothing is left, or at
// its deadline. It returns when that has begun.
func (c *Client) Drain(ctx context.Context) error {
	_, err := c.call(ctx, request{Op: "drain"})
	return err
}

// Close closes the connection to the edge, which goes on as it is.
func (c *Client) Close() error { return c.c.Close() }

func (c *Client) call(ctx context.Context, req request) (*response, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.broken != nil {
		return nil, gapless.Errorf(gapless.Unavailable, "speak to the edge: %w", c.broken)
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	req.V = controlVersion
	b, err := json.Marshal(req)
	if err != nil {
		return nil, fmt.Errorf("write message to the edge: %w", err)
	}
	if len(b) >= maxLine {
		return nil, errTooLong
	}
	stop := context.AfterFunc(ctx, func() { c.c.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	line, err := c.roundTrip(append(b, '\n'))
	if err != nil {
		c.broken = err
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		return nil, gapless.Errorf(gapless.Unavailable, "speak to the edge: %w", err)
	}
	var res response
	d := json.NewDecoder(bytes.NewReader(line))
	if err := d.Decode(&res); err != nil {
		return nil, gapless.Errorf(gapless.Internal, "read answer of the edge: %w", err)
	}
	if res.V != controlVersion {
		return nil, gapless.Errorf(gapless.Unsupported, "the edge answers in control version %d, not %d", res.V, controlVersion)
	}
	if res.Error != nil {
		return nil, res.Error
	}
	return &res, nil
}

func (c *Client) roundTrip(b []byte) ([]byte, error) {
	if _, err := c.c.Write(b); err != nil {
		return nil, err
	}
	line, err := readLine(c.r)
	if errors.Is(err, net.ErrClosed) {
		return nil, errors.New("connection is closed")
	}
	return line, err
}
