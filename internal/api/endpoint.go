package api

import (
	"encoding/json"
	"errors"
	"io"
	"iter"
	"net/http"
	"net/url"
	"reflect"
	"strconv"
	"strings"
	"time"

	"gapless"
)

// endpoint is one row of the API's table. The server's mux, the scopes that
// it enforces, what is audited, and the OpenAPI file are all made of it.
type endpoint struct {
	method, path string
	verb         string // what the audit calls it; "": it changes nothing and is not recorded
	scope        gapless.Scope
	local        bool // offered on the unix socket only
	summary      string
	query        []parameter
	in, out      reflect.Type // JSON of the request and of the answer; nil: none
	stream       string       // media type of a stream of out; "": one JSON value
	text         string       // media type of a text; "": it is none
	serve        func(*visit) error
}

// parameter is one of a query.
type parameter struct {
	name, kind, summary string // kind is OpenAPI's: "string", "integer", "boolean"
}

// visit is one request on its way.
type visit struct {
	Service
	w   http.ResponseWriter
	r   *http.Request
	act *gapless.Act // what the audit will say of it
}

func (c *visit) app() string { return c.r.PathValue("app") }

const (
	ndjson = "application/x-ndjson"
	sse    = "text/event-stream"

	prometheusText = "text/plain; version=0.0.4; charset=utf-8"
)

// get is an endpoint that changes nothing.
func get[Out any](path string, scope gapless.Scope, summary string, f func(*visit) (Out, error)) endpoint {
	return endpoint{method: "GET", path: path, scope: scope, summary: summary, out: reflect.TypeFor[Out](),
		serve: func(c *visit) error {
			out, err := f(c)
			return c.answer(out, err)
		}}
}

// do is an endpoint that changes something and takes no body.
func do[Out any](method, path, verb string, scope gapless.Scope, summary string, f func(*visit) (Out, error)) endpoint {
	e := get(path, scope, summary, f)
	e.method, e.verb = method, verb
	plain := e.serve
	e.serve = func(c *visit) error {
		if err := nothing(c.r.Body); err != nil {
			return err
		}
		return plain(c)
	}
	return e
}

// ask is an endpoint that takes a body.
func ask[In, Out any](method, path, verb string, scope gapless.Scope, summary string, f func(*visit, In) (Out, error)) endpoint {
	e := get(path, scope, summary, func(c *visit) (Out, error) {
		var in In
		if err := decode(c.r.Body, &in); err != nil {
			var none Out
			return none, err
		}
		c.received()
		return f(c, in)
	})
	e.method, e.verb, e.in = method, verb, reflect.TypeFor[In]()
	return e
}

// stream is an endpoint that answers piece by piece.
func stream[Out any](path string, scope gapless.Scope, media, summary string, query []parameter, f func(*visit, url.Values) (iter.Seq2[Out, error], error)) endpoint {
	return endpoint{method: "GET", path: path, scope: scope, summary: summary, query: query, out: reflect.TypeFor[Out](), stream: media,
		serve: func(c *visit) error {
			seq, err := f(c, c.r.URL.Query())
			if err != nil {
				return err
			}
			return send(c, media, seq)
		}}
}

// text is an endpoint that answers with a text.
func text(path string, scope gapless.Scope, media, summary string, f func(*visit) (string, error)) endpoint {
	return endpoint{method: "GET", path: path, scope: scope, summary: summary, out: reflect.TypeFor[string](), text: media,
		serve: func(c *visit) error {
			out, err := f(c)
			if err != nil {
				return err
			}
			c.w.Header().Set("Content-Type", media)
			c.w.Header().Set("Cache-Control", "no-store")
			_, err = io.WriteString(c.w, out)
			if err != nil {
				return cut(err)
			}
			return nil
		}}
}

// onSocket makes e an endpoint of the unix socket only.
func (e endpoint) onSocket() endpoint {
	e.local = true
	return e
}

// empty is the answer of what has nothing to say but that it was done.
type empty struct{}

// endpoints is the whole API.
func endpoints() []endpoint {
	const (
		read, deploy, admin = gapless.ScopeRead, gapless.ScopeDeploy, gapless.ScopeAdmin
	)
	return []endpoint{
		get("/openapi.json", read, "This description", func(*visit) (json.RawMessage, error) { return openAPI, nil }),
		get("/status", read, "Everything that runs", func(c *visit) (Status, error) { return c.Status(c.r.Context()) }),
		text("/metrics", read, prometheusText, "What Prometheus wants to know: the traffic of all edges",
			func(c *visit) (string, error) { return c.Metrics(c.r.Context()) }),

		ask("POST", "/apps/{app}/deploy", "deploy", deploy, "Make a release of a directory of this machine and roll it out",
			func(c *visit, req DeployRequest) (gapless.Rollout, error) {
				if req.App.Name != c.app() {
					return gapless.Rollout{}, gapless.Errorf(gapless.Invalid, "the path names app %q, the body %q", c.app(), req.App.Name)
				}
				if req.DespiteAlerts {
					c.act.Detail = "despite alerts"
				}
				if req.Kind == "up" {
					c.act.Verb = req.Kind
				}
				return c.Deploy(c.r.Context(), req)
			}).onSocket(),
		ask("POST", "/apps/{app}/plan", "", deploy, "What a deploy would do; changes nothing", // deploy: it compares values of the environment
			func(c *visit, req DeployRequest) (Plan, error) { return c.Plan(c.r.Context(), req) }),
		do("POST", "/apps/{app}/restart", "restart", deploy, "Replace every instance by a new one of the same release",
			func(c *visit) (gapless.Rollout, error) { return c.Restart(c.r.Context(), c.app()) }),
		ask("POST", "/apps/{app}/scale", "scale", deploy, "Change the number of instances of one process",
			func(c *visit, req ScaleRequest) (gapless.Rollout, error) {
				c.act.Detail = req.Process + "=" + strconv.Itoa(req.Instances)
				return c.Scale(c.r.Context(), c.app(), req)
			}),
		do("POST", "/apps/{app}/promote", "promote", deploy, "Give the candidate all traffic now",
			func(c *visit) (gapless.Rollout, error) { return c.Promote(c.r.Context(), c.app()) }),
		do("POST", "/apps/{app}/pause", "pause", deploy, "Hold the rollout where it is",
			func(c *visit) (gapless.Rollout, error) { return c.Pause(c.r.Context(), c.app()) }),
		do("POST", "/apps/{app}/resume", "resume", deploy, "Go on with the next step",
			func(c *visit) (gapless.Rollout, error) { return c.Resume(c.r.Context(), c.app()) }),
		do("POST", "/apps/{app}/abort", "abort", deploy, "Take the rollout that is under way back",
			func(c *visit) (gapless.Rollout, error) { return c.Abort(c.r.Context(), c.app()) }),
		ask("POST", "/apps/{app}/rollback", "rollback", deploy, "Go back to an earlier release",
			func(c *visit, req RollbackRequest) (gapless.Rollout, error) {
				c.act.Detail = req.Release
				return c.Rollback(c.r.Context(), c.app(), req.Release)
			}),
		do("POST", "/apps/{app}/down", "down", admin, "Stop an app, and answer when nothing of it runs",
			func(c *visit) (empty, error) { return empty{}, c.Down(c.r.Context(), c.app()) }),
		do("PUT", "/apps/{app}/hold", "hold.on", deploy, "Let an app's new requests wait, up to its hold",
			func(c *visit) (Traffic, error) { return c.Hold(c.r.Context(), c.app()) }),
		do("DELETE", "/apps/{app}/hold", "hold.off", deploy, "Let an app's requests go on",
			func(c *visit) (Traffic, error) { return c.Unhold(c.r.Context(), c.app()) }),
		ask("PUT", "/apps/{app}/maintenance", "maintenance.on", deploy, "Answer an app's requests with 503 and a page, but for allowed addresses",
			func(c *visit, req gapless.Maintenance) (Traffic, error) {
				c.act.Detail = strings.Join(req.Allow, " ")
				return c.StartMaintenance(c.r.Context(), c.app(), req)
			}),
		do("DELETE", "/apps/{app}/maintenance", "maintenance.off", deploy, "Let an app's requests through again",
			func(c *visit) (Traffic, error) { return c.EndMaintenance(c.r.Context(), c.app()) }),
		get("/apps/{app}/metrics", deploy, "Ask each outside metric of an app once", // deploy: keys of the app are used
			func(c *visit) ([]MetricReading, error) { return c.CheckMetrics(c.r.Context(), c.app()) }),
		ask("POST", "/apps/{app}/metrics", "metrics.try", deploy, "Ask outside metrics that no release has yet; changes nothing",
			func(c *visit, req MetricRequest) ([]MetricReading, error) {
				return c.TryMetrics(c.r.Context(), c.app(), req)
			}).onSocket(), // it sends the app's keys where the request says
		get("/apps/{app}/releases", read, "An app's releases, newest first",
			func(c *visit) ([]gapless.Release, error) { return c.Releases(c.r.Context(), c.app()) }),
		get("/apps/{app}/rollouts", read, "An app's rollouts, newest first",
			func(c *visit) ([]gapless.Rollout, error) { return c.Rollouts(c.r.Context(), c.app()) }),
		stream("/apps/{app}/logs", read, ndjson, "What the instances of an app printed", []parameter{
			{"lines", "integer", "how many of the last ones"},
			{"follow", "boolean", "go on with new ones"},
			{"instance", "string", "only of these: v3, v3/1, worker, v3/worker.1"},
			{"stream", "string", "only out, or only err"},
			{"access", "boolean", "the lines of the access log instead"},
		}, logs),

		get("/apps/{app}/secrets", read, "The names of an app's secrets; values go in and never come out",
			func(c *visit) ([]gapless.Secret, error) { return c.Secrets(c.r.Context(), c.app()) }),
		ask("PUT", "/apps/{app}/secrets/{name}", "secret.set", admin, "Set a secret for the app's next release",
			func(c *visit, req SecretRequest) (empty, error) {
				c.act.Detail = c.r.PathValue("name")
				return empty{}, c.SetSecret(c.r.Context(), c.app(), c.act.Detail, req.Value)
			}),
		do("DELETE", "/apps/{app}/secrets/{name}", "secret.rm", admin, "Remove a secret from the app's next release",
			func(c *visit) (empty, error) {
				c.act.Detail = c.r.PathValue("name")
				return empty{}, c.RemoveSecret(c.r.Context(), c.app(), c.act.Detail)
			}),

		get("/rollouts/{id}", read, "One rollout",
			func(c *visit) (gapless.Rollout, error) { return c.Rollout(c.r.Context(), c.r.PathValue("id")) }),
		stream("/rollouts/{id}/events", read, sse, "The events of a rollout, until it ends", []parameter{
			{"since", "integer", "only those after this number"},
		}, func(c *visit, q url.Values) (iter.Seq2[gapless.Event, error], error) {
			since, err := number(q, "since")
			if err != nil {
				return nil, err
			}
			return c.Events(c.r.Context(), c.r.PathValue("id"), since)
		}),
		do("POST", "/shutdown", "shutdown", admin, "Stop every app, then every process of the installation",
			func(c *visit) (empty, error) { return empty{}, c.Shutdown(c.r.Context()) }).onSocket(),

		get("/tokens", admin, "The tokens, without what they are recognised by",
			func(c *visit) ([]gapless.Token, error) { return c.Tokens(c.r.Context()) }),
		ask("POST", "/tokens", "token.create", admin, "Make a token; its secret is in this answer and nowhere else",
			func(c *visit, req TokenRequest) (NewToken, error) {
				c.act.Detail = req.Name + " " + string(req.Scope)
				return c.CreateToken(c.r.Context(), req)
			}),
		do("DELETE", "/tokens/{name}", "token.revoke", admin, "Make a token worthless at once",
			func(c *visit) (empty, error) {
				c.act.Detail = c.r.PathValue("name")
				return empty{}, c.RevokeToken(c.r.Context(), c.act.Detail)
			}),
		stream("/audit", admin, ndjson, "Who asked for which change, oldest first", []parameter{
			{"app", "string", "only of this app"},
			{"since", "string", "only from this time on (RFC 3339)"},
		}, func(c *visit, q url.Values) (iter.Seq2[gapless.Act, error], error) {
			since, err := moment(q, "since")
			if err != nil {
				return nil, err
			}
			return c.Audit(c.r.Context(), AuditRequest{App: q.Get("app"), Since: since})
		}),
		get("/network", admin, "How this API is reached over the network",
			func(c *visit) (Network, error) { return c.Network(c.r.Context()) }),
		ask("PUT", "/network", "network.open", admin, "Serve this API over the network, with TLS and tokens",
			func(c *visit, req NetworkRequest) (Network, error) {
				c.act.Detail = req.Listen
				return c.SetNetwork(c.r.Context(), req)
			}).onSocket(),
		do("DELETE", "/network", "network.close", admin, "Serve this API on the unix socket only",
			func(c *visit) (empty, error) { return empty{}, c.CloseNetwork(c.r.Context()) }).onSocket(),

		get("/certificates", read, "What is shown to https clients, and how it stands",
			func(c *visit) ([]Certificate, error) { return c.Certificates(c.r.Context()) }),
		do("POST", "/certificates/{name}/renew", "renew certificate", deploy, "Get another certificate from the ACME server now",
			func(c *visit) (Certificate, error) {
				c.act.Detail = c.r.PathValue("name")
				return c.RenewCertificate(c.r.Context(), c.r.PathValue("name"))
			}),

		do("POST", "/apps/{app}/notify/test", "notify.test", deploy, "Send one message to each target that the app tells, and say what it answered",
			func(c *visit) ([]NotifyAnswer, error) { return c.TestNotify(c.r.Context(), c.app()) }),

		hear("/alerts", gapless.ScopeAlert, "Say which alerts fire and which are over, as Alertmanager does; unknown fields are ignored",
			func(c *visit, w gapless.AlertWebhook) (Heard, error) { return c.HearAlerts(c.r.Context(), w) }),
		get("/alerts", read, "The alerts that fire",
			func(c *visit) ([]gapless.Alert, error) { return c.Alerts(c.r.Context()) }),
		do("DELETE", "/alerts/{id}", "alert.clear", deploy, "Keep an alert from refusing deploys, until it fires anew",
			func(c *visit) (gapless.Alert, error) {
				c.act.Detail = c.r.PathValue("id")
				a, err := c.ClearAlert(c.r.Context(), c.act.Detail)
				c.act.App = a.App
				return a, err
			}),

		ask("POST", "/apps/{app}/exec", "exec", admin, "Directory, environment and user of an instance or release, to run a command there",
			func(c *visit, req ExecRequest) (Exec, error) {
				c.act.Detail = strings.Join(strings.Fields(req.Release+" "+req.Instance+" "+req.Program), " ") // arguments may be secrets
				return c.Exec(c.r.Context(), c.app(), req)
			}).onSocket(),
		ask("POST", "/apps/{app}/once", "run-once", admin, "Run a command of a release once",
			func(c *visit, req OnceRequest) (Once, error) {
				c.act.Detail = req.Release
				if len(req.Command) > 0 {
					c.act.Detail = strings.TrimSpace(req.Release + " " + req.Command[0])
				}
				return c.RunOnce(c.r.Context(), c.app(), req)
			}),
		stream("/apps/{app}/once/{id}", admin, ndjson, "What a command that runs once prints, and how it ended as the last", nil,
			func(c *visit, _ url.Values) (iter.Seq2[OnceOutput, error], error) {
				return c.OnceOutput(c.r.Context(), c.app(), c.r.PathValue("id"))
			}),
		do("DELETE", "/apps/{app}/once/{id}", "run-once.stop", admin, "End a command that runs once",
			func(c *visit) (empty, error) {
				c.act.Detail = c.r.PathValue("id")
				return empty{}, c.StopOnce(c.r.Context(), c.app(), c.r.PathValue("id"))
			}),
	}
}

func logs(c *visit, q url.Values) (iter.Seq2[LogLine, error], error) {
	lines, err := number(q, "lines")
	if err != nil {
		return nil, err
	}
	follow, err := boolean(q, "follow")
	if err != nil {
		return nil, err
	}
	access, err := boolean(q, "access")
	if err != nil {
		return nil, err
	}
	return c.Logs(c.r.Context(), c.app(), LogRequest{Lines: int(lines), Follow: follow, Access: access, Instance: q.Get("instance"), Stream: q.Get("stream")})
}

// number reads a whole number that is not negative; absent is 0.
func number(q url.Values, name string) (int64, error) {
	text := q.Get(name)
	if text == "" {
		return 0, nil
	}
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil || n < 0 || n > 1<<53 {
		return 0, gapless.Errorf(gapless.Invalid, "%s=%q is not a number", name, text)
	}
	return n, nil
}

// boolean reads true or false; absent is false.
func boolean(q url.Values, name string) (bool, error) {
	switch q.Get(name) {
	case "true":
		return true, nil
	case "", "false":
		return false, nil
	}
	return false, gapless.Errorf(gapless.Invalid, "%s=%q is neither true nor false", name, q.Get(name))
}

// moment reads a time; absent is the zero time.
func moment(q url.Values, name string) (time.Time, error) {
	text := q.Get(name)
	if text == "" {
		return time.Time{}, nil
	}
	t, err := time.Parse(time.RFC3339Nano, text)
	if err != nil {
		return t, gapless.Errorf(gapless.Invalid, "%s=%q is not a time", name, text).WithHint("write it as in RFC 3339: 2026-01-31T12:00:00Z")
	}
	return t, nil
}

// checkQuery refuses what the endpoint does not know, and what is given twice.
func (e endpoint) checkQuery(raw string) error {
	q, err := url.ParseQuery(raw)
	if err != nil {
		return gapless.Errorf(gapless.Invalid, "the query cannot be read: %w", err)
	}
	for name, values := range q {
		known := false
		var names []string
		for _, p := range e.query {
			known = known || p.name == name
			names = append(names, p.name)
		}
		switch {
		case !known && len(names) == 0:
			return gapless.Errorf(gapless.Invalid, "unknown parameter %q", name).WithHint("this path takes none")
		case !known:
			return gapless.Errorf(gapless.Invalid, "unknown parameter %q", name).WithHint("known: %s", strings.Join(names, ", "))
		case len(values) > 1:
			return gapless.Errorf(gapless.Invalid, "parameter %q is given twice", name)
		}
	}
	return nil
}

func decode(r io.Reader, v any) error {
	dec := json.NewDecoder(r)
	dec.DisallowUnknownFields()
	if err := dec.Decode(v); err != nil {
		return badBody(err)
	}
	if _, err := dec.Token(); err != io.EOF {
		if large := new(http.MaxBytesError); errors.As(err, &large) {
			return badBody(err)
		}
		return gapless.Errorf(gapless.Invalid, "request body: more than one JSON value")
	}
	return nil
}

// nothing refuses a body where none is read.
func nothing(r io.Reader) error {
	n, err := r.Read(make([]byte, 1))
	if n > 0 {
		return gapless.Errorf(gapless.Invalid, "request body: this path takes none")
	}
	if err != nil && err != io.EOF {
		return badBody(err)
	}
	return nil
}

func badBody(err error) error {
	if large := new(http.MaxBytesError); errors.As(err, &large) {
		return gapless.Errorf(gapless.TooLarge, "request body: it is larger than %d MiB", MaxBody>>20)
	}
	return gapless.Errorf(gapless.Invalid, "request body: %w", err)
}
