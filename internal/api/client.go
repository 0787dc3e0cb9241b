package api

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"gapless"
)

// Client talks to a daemon over its unix socket, or over the network.
type Client struct {
	http   *http.Client
	base   string      // scheme and host of every URL
	token  string      // "": none is needed
	coming func() bool // nil: a daemon that is away is not waited for
}

// comingLimit is how long a client waits for a daemon that is said to come.
const comingLimit = 20 * time.Second

// NewClient returns a client for the daemon that listens on socket. It does
// not connect yet.
func NewClient(socket string) *Client {
	c := &Client{base: "http://gapless"}
	c.http = &http.Client{Transport: &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) { return c.dial(ctx, socket) },
	}}
	return c
}

// Patient makes c wait, up to 20 s, where no daemon listens but coming says
// that one will, and ask again what can be asked twice when the daemon went
// away before it answered.
func (c *Client) Patient(coming func() bool) *Client {
	c.coming = coming
	return c
}

func (c *Client) dial(ctx context.Context, socket string) (net.Conn, error) {
	var d net.Dialer
	for end := time.Now().Add(comingLimit); ; {
		conn, err := d.DialContext(ctx, "unix", socket)
		if err == nil || ctx.Err() != nil || c.coming == nil || time.Now().After(end) || !c.coming() {
			return conn, err
		}
		select {
		case <-ctx.Done():
		case <-time.After(10 * time.Millisecond):
		}
	}
}

func (c *Client) do(ctx context.Context, method, path string, in any) (*http.Response, error) {
	var body io.Reader
	if in != nil {
		data, err := json.Marshal(in)
		if err != nil {
			return nil, err
		}
		body = bytes.NewReader(data)
	}
	req, err := http.NewRequestWithContext(ctx, method, c.base+"/"+Version+path, body)
	if err != nil {
		return nil, err
	}
	if c.token != "" {
		req.Header.Set("Authorization", "Bearer "+c.token)
	}
	began := time.Now()
	res, err := c.http.Do(req)
	for tries := 0; err != nil && tries < 5 && time.Since(began) < comingLimit && in == nil && repeatable(method, path) && ctx.Err() == nil && c.coming != nil && c.coming(); tries++ {
		res, err = c.http.Do(req)
	}
	if err != nil {
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		var request *url.Error
		if errors.As(err, &request) {
			err = request.Err // the URL says nothing, it is always the same socket
		}
		if errors.Is(err, fs.ErrPermission) {
			return nil, gapless.Errorf(gapless.NotAllowed, "reach the daemon: %w", err).WithHint("it belongs to somebody else: use their account, or your own GAPLESS_HOME")
		}
		if c.Remote() {
			return nil, unreachable(c.base, err)
		}
		return nil, gapless.Errorf(gapless.Unavailable, "reach the daemon: %w", err).WithHint("start it with: gapless up")
	}
	if res.StatusCode == http.StatusOK {
		return res, nil
	}
	defer func() { _ = res.Body.Close() }()
	var e struct{ Error *gapless.Error }
	if err := json.NewDecoder(io.LimitReader(res.Body, MaxBody)).Decode(&e); err != nil || e.Error == nil {
		return nil, gapless.Errorf(gapless.Internal, "the daemon answered %s to %s %s", res.Status, method, path)
	}
	if e.Error.Hint == "" && strings.HasPrefix(e.Error.Message, unknownField) {
		return nil, e.Error.WithHint("the daemon is older than this command: gapless upgrade brings it up to date")
	}
	return nil, e.Error
}

// unknownField is how a daemon of any version refuses a field that it does not
// know. Of what this client sends, its own version knows all.
const unknownField = "request body: json: unknown field "

// repeatable reports whether asking twice is the same as asking once.
func repeatable(method, path string) bool {
	return method == "GET" || strings.HasSuffix(path, "/down") || strings.HasSuffix(path, "/abort")
}

func call[T any](ctx context.Context, c *Client, method, path string, in any) (T, error) {
	var out T
	res, err := c.do(ctx, method, path, in)
	if err != nil {
		return out, err
	}
	defer func() { _ = res.Body.Close() }()
	if err := json.NewDecoder(res.Body).Decode(&out); err != nil {
		return out, fmt.Errorf("read the daemon's answer to %s %s: %w", method, path, err)
	}
	return out, nil
}

func appPath(app, verb string) string { return "/apps/" + url.PathEscape(app) + "/" + verb }

// Status asks for everything that runs.
func (c *Client) Status(ctx context.Context) (Status, error) {
	return call[Status](ctx, c, "GET", "/status", nil)
}

// Metrics asks for the traffic of all edges, as Prometheus reads it.
func (c *Client) Metrics(ctx context.Context) (string, error) {
	res, err := c.do(ctx, "GET", "/metrics", nil)
	if err != nil {
		return "", err
	}
	defer func() { _ = res.Body.Close() }()
	text, err := io.ReadAll(res.Body)
	if err != nil {
		return "", fmt.Errorf("read the daemon's answer to GET /metrics: %w", err)
	}
	return string(text), nil
}

// Deploy asks for a new release and its rollout; it returns while that is still prepared.
func (c *Client) Deploy(ctx context.Context, req DeployRequest) (gapless.Rollout, error) {
	return call[gapless.Rollout](ctx, c, "POST", appPath(req.App.Name, "deploy"), req)
}

// Restart replaces every instance by a new one of the same release.
func (c *Client) Restart(ctx context.Context, app string) (gapless.Rollout, error) {
	return call[gapless.Rollout](ctx, c, "POST", appPath(app, "restart"), nil)
}

// Scale changes the number of instances of one process.
func (c *Client) Scale(ctx context.Context, app string, req ScaleRequest) (gapless.Rollout, error) {
	return call[gapless.Rollout](ctx, c, "POST", appPath(app, "scale"), req)
}

// Abort takes the running rollout back.
func (c *Client) Abort(ctx context.Context, app string) (gapless.Rollout, error) {
	return call[gapless.Rollout](ctx, c, "POST", appPath(app, "abort"), nil)
}

// Promote gives the candidate all traffic now.
func (c *Client) Promote(ctx context.Context, app string) (gapless.Rollout, error) {
	return call[gapless.Rollout](ctx, c, "POST", appPath(app, "promote"), nil)
}

// Pause holds the rollout where it is.
func (c *Client) Pause(ctx context.Context, app string) (gapless.Rollout, error) {
	return call[gapless.Rollout](ctx, c, "POST", appPath(app, "pause"), nil)
}

// Resume goes on with the next step.
func (c *Client) Resume(ctx context.Context, app string) (gapless.Rollout, error) {
	return call[gapless.Rollout](ctx, c, "POST", appPath(app, "resume"), nil)
}

// Rollback goes back to an earlier release; "" is the one that served before.
func (c *Client) Rollback(ctx context.Context, app, release string) (gapless.Rollout, error) {
	return call[gapless.Rollout](ctx, c, "POST", appPath(app, "rollback"), RollbackRequest{Release: release})
}

// Plan says what a deploy would do.
func (c *Client) Plan(ctx context.Context, req DeployRequest) (Plan, error) {
	return call[Plan](ctx, c, "POST", appPath(req.App.Name, "plan"), req)
}

// Rollouts lists an app's rollouts, newest first.
func (c *Client) Rollouts(ctx context.Context, app string) ([]gapless.Rollout, error) {
	return call[[]gapless.Rollout](ctx, c, "GET", appPath(app, "rollouts"), nil)
}

// Down stops an app and waits until nothing of it runs.
func (c *Client) Down(ctx context.Context, app string) error {
	_, err := call[struct{}](ctx, c, "POST", appPath(app, "down"), nil)
	return err
}

// Releases lists an app's releases, newest first.
func (c *Client) Releases(ctx context.Context, app string) ([]gapless.Release, error) {
	return call[[]gapless.Release](ctx, c, "GET", appPath(app, "releases"), nil)
}

// Rollout returns one rollout.
func (c *Client) Rollout(ctx context.Context, id string) (gapless.Rollout, error) {
	return call[gapless.Rollout](ctx, c, "GET", "/rollouts/"+url.PathEscape(id), nil)
}

// Shutdown stops every app and every process of the installation.
func (c *Client) Shutdown(ctx context.Context) error {
	_, err := call[struct{}](ctx, c, "POST", "/shutdown", nil)
	return err
}

// Events yields the events of a rollout after number since, until it ends.
func (c *Client) Events(ctx context.Context, rollout string, since int64) iter.Seq2[gapless.Event, error] {
	return func(yield func(gapless.Event, error) bool) {
		path := "/rollouts/" + url.PathEscape(rollout) + "/events?since=" + strconv.FormatInt(since, 10)
		c.lines(ctx, path, func(line []byte) bool {
			data, ok := bytes.CutPrefix(line, []byte("data: "))
			if !ok {
				return true
			}
			var e gapless.Event
			err := json.Unmarshal(data, &e)
			return yield(e, err) && err == nil
		}, func(err error) { yield(gapless.Event{}, err) })
	}
}

// Logs yields log lines; with Follow until ctx ends.
func (c *Client) Logs(ctx context.Context, app string, req LogRequest) iter.Seq2[LogLine, error] {
	return func(yield func(LogLine, error) bool) {
		q := url.Values{"lines": {strconv.Itoa(req.Lines)}, "follow": {strconv.FormatBool(req.Follow)},
			"instance": {req.Instance}, "stream": {req.Stream}, "access": {strconv.FormatBool(req.Access)}}
		c.lines(ctx, appPath(app, "logs?")+q.Encode(), func(line []byte) bool {
			var l LogLine
			err := json.Unmarshal(line, &l)
			return yield(l, err) && err == nil
		}, func(err error) { yield(LogLine{}, err) })
	}
}

// OpenAPI is the description of the API that the daemon serves.
func (c *Client) OpenAPI(ctx context.Context) (json.RawMessage, error) {
	return call[json.RawMessage](ctx, c, "GET", "/openapi.json", nil)
}

// Tokens lists the tokens.
func (c *Client) Tokens(ctx context.Context) ([]gapless.Token, error) {
	return call[[]gapless.Token](ctx, c, "GET", "/tokens", nil)
}

// CreateToken makes a token. Its secret is told once.
func (c *Client) CreateToken(ctx context.Context, req TokenRequest) (NewToken, error) {
	return call[NewToken](ctx, c, "POST", "/tokens", req)
}

// RevokeToken makes a token worthless.
func (c *Client) RevokeToken(ctx context.Context, name string) error {
	_, err := call[struct{}](ctx, c, "DELETE", "/tokens/"+url.PathEscape(name), nil)
	return err
}

// Audit yields who asked for which change, oldest first.
func (c *Client) Audit(ctx context.Context, req AuditRequest) iter.Seq2[gapless.Act, error] {
	q := url.Values{}
	if req.App != "" {
		q.Set("app", req.App)
	}
	if !req.Since.IsZero() {
		q.Set("since", req.Since.Format(time.RFC3339Nano))
	}
	return values[gapless.Act](ctx, c, "/audit?"+q.Encode())
}

// Network says how the API is reached over the network.
func (c *Client) Network(ctx context.Context) (Network, error) {
	return call[Network](ctx, c, "GET", "/network", nil)
}

// SetNetwork makes the daemon serve the API over the network.
func (c *Client) SetNetwork(ctx context.Context, req NetworkRequest) (Network, error) {
	return call[Network](ctx, c, "PUT", "/network", req)
}

// CloseNetwork ends that.
func (c *Client) CloseNetwork(ctx context.Context) error {
	_, err := call[struct{}](ctx, c, "DELETE", "/network", nil)
	return err
}

// Exec asks for what a command needs to run as if it were an instance.
func (c *Client) Exec(ctx context.Context, app string, req ExecRequest) (Exec, error) {
	return call[Exec](ctx, c, "POST", appPath(app, "exec"), req)
}

// RunOnce starts a command of a release that is run once.
func (c *Client) RunOnce(ctx context.Context, app string, req OnceRequest) (Once, error) {
	return call[Once](ctx, c, "POST", appPath(app, "once"), req)
}

// OnceOutput yields what such a command prints, and how it ended as the last.
func (c *Client) OnceOutput(ctx context.Context, app, id string) iter.Seq2[OnceOutput, error] {
	return values[OnceOutput](ctx, c, appPath(app, "once/"+url.PathEscape(id)))
}

// StopOnce ends such a command.
func (c *Client) StopOnce(ctx context.Context, app, id string) error {
	_, err := call[struct{}](ctx, c, "DELETE", appPath(app, "once/"+url.PathEscape(id)), nil)
	return err
}

// values reads a streamed answer of one JSON value per line.
func values[T any](ctx context.Context, c *Client, path string) iter.Seq2[T, error] {
	return func(yield func(T, error) bool) {
		c.lines(ctx, path, func(line []byte) bool {
			var v T
			err := json.Unmarshal(line, &v)
			return yield(v, err) && err == nil
		}, func(err error) {
			var none T
			yield(none, err)
		})
	}
}

// lines reads a streamed answer line by line until each returns false.
func (c *Client) lines(ctx context.Context, path string, each func([]byte) bool, fail func(error)) {
	res, err := c.do(ctx, "GET", path, nil)
	if err != nil {
		fail(err)
		return
	}
	defer func() { _ = res.Body.Close() }()
	r := bufio.NewReader(res.Body)
	for {
		line, err := r.ReadBytes('\n')
		if line = bytes.TrimRight(line, "\n"); len(line) > 0 && !each(line) {
			return
		}
		if errors.Is(err, io.EOF) {
			return
		}
		if err != nil {
			if ctx.Err() != nil {
				err = ctx.Err()
			} else {
				err = gapless.Errorf(gapless.Unavailable, "the daemon's stream broke off: %w", err)
			}
			fail(err)
			return
		}
	}
}

// NoDaemon reports whether err says that no daemon listens.
func NoDaemon(err error) bool {
	return gapless.CodeOf(err) == gapless.Unavailable && strings.Contains(err.Error(), "reach the daemon")
}

// Secrets lists an app's secrets by name.
func (c *Client) Secrets(ctx context.Context, app string) ([]gapless.Secret, error) {
	return call[[]gapless.Secret](ctx, c, "GET", appPath(app, "secrets"), nil)
}

// SetSecret sets a secret for the app's next release.
func (c *Client) SetSecret(ctx context.Context, app, name, value string) error {
	_, err := call[struct{}](ctx, c, "PUT", appPath(app, "secrets/")+url.PathEscape(name), SecretRequest{Value: value})
	return err
}

// RemoveSecret removes a secret from the app's next release.
func (c *Client) RemoveSecret(ctx context.Context, app, name string) error {
	_, err := call[struct{}](ctx, c, "DELETE", appPath(app, "secrets/")+url.PathEscape(name), nil)
	return err
}
