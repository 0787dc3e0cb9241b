package api

import (
	"bytes"
	"context"
	"encoding/json"
	"iter"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"sync"
	"testing"
	"time"

	"gapless"
)

// asked is a Service that does nothing, and remembers what it was asked for.
type asked struct {
	mu    sync.Mutex
	calls []string
}

func (a *asked) note(what string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.calls = append(a.calls, what)
}

// forget returns what it was asked for.
func (a *asked) forget() []string {
	a.mu.Lock()
	defer a.mu.Unlock()
	calls := a.calls
	a.calls = nil
	return calls
}

func (a *asked) rollout(what, app string) (gapless.Rollout, error) {
	a.note(what)
	return gapless.Rollout{ID: "r1", App: app}, nil
}

func once[T any](v T) iter.Seq2[T, error] {
	return func(yield func(T, error) bool) { yield(v, nil) }
}

func (a *asked) Status(context.Context) (Status, error) { a.note("Status"); return Status{}, nil }
func (a *asked) Metrics(context.Context) (string, error) {
	a.note("Metrics")
	return "# nothing\n", nil
}
func (a *asked) Deploy(_ context.Context, req DeployRequest) (gapless.Rollout, error) {
	return a.rollout("Deploy", req.App.Name)
}
func (a *asked) Restart(_ context.Context, app string) (gapless.Rollout, error) {
	return a.rollout("Restart", app)
}
func (a *asked) Scale(_ context.Context, app string, _ ScaleRequest) (gapless.Rollout, error) {
	return a.rollout("Scale", app)
}
func (a *asked) Abort(_ context.Context, app string) (gapless.Rollout, error) {
	return a.rollout("Abort", app)
}
func (a *asked) Promote(_ context.Context, app string) (gapless.Rollout, error) {
	return a.rollout("Promote", app)
}
func (a *asked) Pause(_ context.Context, app string) (gapless.Rollout, error) {
	return a.rollout("Pause", app)
}
func (a *asked) Resume(_ context.Context, app string) (gapless.Rollout, error) {
	return a.rollout("Resume", app)
}
func (a *asked) Rollback(_ context.Context, app, release string) (gapless.Rollout, error) {
	if release == "v404" {
		return gapless.Rollout{}, gapless.Errorf(gapless.NotFound, "no release %q", release)
	}
	return a.rollout("Rollback", app)
}
func (a *asked) Plan(context.Context, DeployRequest) (Plan, error) {
	a.note("Plan")
	return Plan{}, nil
}
func (a *asked) Rollouts(context.Context, string) ([]gapless.Rollout, error) {
	a.note("Rollouts")
	return nil, nil
}
func (a *asked) Down(context.Context, string) error { a.note("Down"); return nil }
func (a *asked) Releases(context.Context, string) ([]gapless.Release, error) {
	a.note("Releases")
	return nil, nil
}
func (a *asked) Rollout(context.Context, string) (gapless.Rollout, error) {
	return a.rollout("Rollout", "shop")
}
func (a *asked) Events(context.Context, string, int64) (iter.Seq2[gapless.Event, error], error) {
	a.note("Events")
	return once(gapless.Event{Seq: 1}), nil
}
func (a *asked) Logs(context.Context, string, LogRequest) (iter.Seq2[LogLine, error], error) {
	a.note("Logs")
	return once(LogLine{Text: "x"}), nil
}
func (a *asked) Shutdown(context.Context) error { a.note("Shutdown"); return nil }
func (a *asked) Tokens(context.Context) ([]gapless.Token, error) {
	a.note("Tokens")
	return nil, nil
}
func (a *asked) CreateToken(context.Context, TokenRequest) (NewToken, error) {
	a.note("CreateToken")
	return NewToken{}, nil
}
func (a *asked) RevokeToken(context.Context, string) error { a.note("RevokeToken"); return nil }
func (a *asked) Audit(context.Context, AuditRequest) (iter.Seq2[gapless.Act, error], error) {
	a.note("Audit")
	return once(gapless.Act{Verb: "deploy"}), nil
}
func (a *asked) Network(context.Context) (Network, error) { a.note("Network"); return Network{}, nil }
func (a *asked) SetNetwork(context.Context, NetworkRequest) (Network, error) {
	a.note("SetNetwork")
	return Network{}, nil
}
func (a *asked) CloseNetwork(context.Context) error { a.note("CloseNetwork"); return nil }
func (a *asked) CheckMetrics(context.Context, string) ([]MetricReading, error) {
	a.note("CheckMetrics")
	return nil, nil
}

func (a *asked) TryMetrics(context.Context, string, MetricRequest) ([]MetricReading, error) {
	a.note("TryMetrics")
	return nil, nil
}

func (a *asked) Certificates(context.Context) ([]Certificate, error) {
	a.note("Certificates")
	return nil, nil
}
func (a *asked) RenewCertificate(context.Context, string) (Certificate, error) {
	a.note("RenewCertificate")
	return Certificate{}, nil
}
func (a *asked) HearAlerts(context.Context, gapless.AlertWebhook) (Heard, error) {
	a.note("HearAlerts")
	return Heard{}, nil
}
func (a *asked) Alerts(context.Context) ([]gapless.Alert, error) {
	a.note("Alerts")
	return nil, nil
}
func (a *asked) ClearAlert(context.Context, string) (gapless.Alert, error) {
	a.note("ClearAlert")
	return gapless.Alert{}, nil
}
func (a *asked) TestNotify(context.Context, string) ([]NotifyAnswer, error) {
	a.note("TestNotify")
	return nil, nil
}
func (a *asked) Exec(context.Context, string, ExecRequest) (Exec, error) {
	a.note("Exec")
	return Exec{}, nil
}
func (a *asked) RunOnce(context.Context, string, OnceRequest) (Once, error) {
	a.note("RunOnce")
	return Once{}, nil
}
func (a *asked) OnceOutput(context.Context, string, string) (iter.Seq2[OnceOutput, error], error) {
	a.note("OnceOutput")
	return once(OnceOutput{Exit: &gapless.Exit{}}), nil
}
func (a *asked) StopOnce(context.Context, string, string) error { a.note("StopOnce"); return nil }
func (a *asked) Secrets(context.Context, string) ([]gapless.Secret, error) {
	a.note("Secrets")
	return nil, nil
}
func (a *asked) SetSecret(context.Context, string, string, string) error {
	a.note("SetSecret")
	return nil
}
func (a *asked) RemoveSecret(context.Context, string, string) error {
	a.note("RemoveSecret")
	return nil
}

func (a *asked) Hold(context.Context, string) (Traffic, error) { a.note("Hold"); return Traffic{}, nil }
func (a *asked) Unhold(context.Context, string) (Traffic, error) {
	a.note("Unhold")
	return Traffic{}, nil
}
func (a *asked) StartMaintenance(context.Context, string, gapless.Maintenance) (Traffic, error) {
	a.note("StartMaintenance")
	return Traffic{}, nil
}
func (a *asked) EndMaintenance(context.Context, string) (Traffic, error) {
	a.note("EndMaintenance")
	return Traffic{}, nil
}

// book is a Gate with one token per scope, and an expired one.
type book struct {
	mu      sync.Mutex
	acts    []gapless.Act
	revoked bool
}

func (b *book) Token(_ context.Context, secret string) (gapless.Token, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, s := range gapless.Scopes() {
		if secret == "secret-"+string(s) && !b.revoked {
			return gapless.Token{Name: "t-" + string(s), Scope: s}, nil
		}
	}
	return gapless.Token{}, gapless.Errorf(gapless.NotKnown, "the token is not valid")
}

func (b *book) Record(_ context.Context, act gapless.Act) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.acts = append(b.acts, act)
}

func (b *book) last() gapless.Act {
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.acts) == 0 {
		return gapless.Act{}
	}
	return b.acts[len(b.acts)-1]
}

// drain calls a method of the client that streams, and reads all of it.
func drain[T any](seq iter.Seq2[T, error]) error {
	for _, err := range seq {
		if err != nil {
			return err
		}
	}
	return nil
}

// Every endpoint is used by exactly one method of the client and calls exactly
// one method of the Service, and neither has methods beside those.
func TestEveryEndpointHasAClientMethod(t *testing.T) {
	var mu sync.Mutex
	var patterns []string
	service := &asked{}
	inner := (&Server{Service: service, Log: slog.New(slog.DiscardHandler)}).Local()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, pattern := inner.(*http.ServeMux).Handler(r)
		mu.Lock()
		patterns = append(patterns, pattern)
		mu.Unlock()
		inner.ServeHTTP(w, r)
	}))
	defer server.Close()
	c := &Client{base: server.URL, http: server.Client()}
	ctx := t.Context()
	first := func(_ any, err error) error { return err }
	deploy := DeployRequest{App: gapless.App{Name: "shop"}}
	calls := map[string]func() error{
		"OpenAPI":          func() error { return first(c.OpenAPI(ctx)) },
		"Status":           func() error { return first(c.Status(ctx)) },
		"Metrics":          func() error { return first(c.Metrics(ctx)) },
		"Deploy":           func() error { return first(c.Deploy(ctx, deploy)) },
		"Plan":             func() error { return first(c.Plan(ctx, deploy)) },
		"Restart":          func() error { return first(c.Restart(ctx, "shop")) },
		"Scale":            func() error { return first(c.Scale(ctx, "shop", ScaleRequest{})) },
		"Promote":          func() error { return first(c.Promote(ctx, "shop")) },
		"Pause":            func() error { return first(c.Pause(ctx, "shop")) },
		"Resume":           func() error { return first(c.Resume(ctx, "shop")) },
		"Abort":            func() error { return first(c.Abort(ctx, "shop")) },
		"Rollback":         func() error { return first(c.Rollback(ctx, "shop", "")) },
		"Down":             func() error { return c.Down(ctx, "shop") },
		"Releases":         func() error { return first(c.Releases(ctx, "shop")) },
		"Rollouts":         func() error { return first(c.Rollouts(ctx, "shop")) },
		"Rollout":          func() error { return first(c.Rollout(ctx, "r1")) },
		"Logs":             func() error { return drain(c.Logs(ctx, "shop", LogRequest{})) },
		"Events":           func() error { return drain(c.Events(ctx, "r1", 0)) },
		"Shutdown":         func() error { return c.Shutdown(ctx) },
		"Tokens":           func() error { return first(c.Tokens(ctx)) },
		"CreateToken":      func() error { return first(c.CreateToken(ctx, TokenRequest{})) },
		"RevokeToken":      func() error { return c.RevokeToken(ctx, "ci") },
		"Audit":            func() error { return drain(c.Audit(ctx, AuditRequest{App: "shop", Since: time.Now()})) },
		"Network":          func() error { return first(c.Network(ctx)) },
		"SetNetwork":       func() error { return first(c.SetNetwork(ctx, NetworkRequest{})) },
		"CloseNetwork":     func() error { return c.CloseNetwork(ctx) },
		"CheckMetrics":     func() error { return first(c.CheckMetrics(ctx, "shop")) },
		"TryMetrics":       func() error { return first(c.TryMetrics(ctx, "shop", MetricRequest{})) },
		"Certificates":     func() error { return first(c.Certificates(ctx)) },
		"HearAlerts":       func() error { return first(c.HearAlerts(ctx, gapless.AlertWebhook{})) },
		"Alerts":           func() error { return first(c.Alerts(ctx)) },
		"ClearAlert":       func() error { return first(c.ClearAlert(ctx, "a1")) },
		"TestNotify":       func() error { return first(c.TestNotify(ctx, "shop")) },
		"RenewCertificate": func() error { return first(c.RenewCertificate(ctx, "shop.test")) },
		"Exec":             func() error { return first(c.Exec(ctx, "shop", ExecRequest{})) },
		"RunOnce":          func() error { return first(c.RunOnce(ctx, "shop", OnceRequest{})) },
		"OnceOutput":       func() error { return drain(c.OnceOutput(ctx, "shop", "1")) },
		"StopOnce":         func() error { return c.StopOnce(ctx, "shop", "1") },
		"Secrets":          func() error { return first(c.Secrets(ctx, "shop")) },
		"SetSecret":        func() error { return c.SetSecret(ctx, "shop", "TOKEN", "value") },
		"Hold":             func() error { return first(c.Hold(ctx, "shop")) },
		"Unhold":           func() error { return first(c.Unhold(ctx, "shop")) },
		"StartMaintenance": func() error { return first(c.StartMaintenance(ctx, "shop", gapless.Maintenance{})) },
		"EndMaintenance":   func() error { return first(c.EndMaintenance(ctx, "shop")) },
		"RemoveSecret":     func() error { return c.RemoveSecret(ctx, "shop", "TOKEN") },
	}
	served := map[string]string{}
	for method, call := range calls {
		mu.Lock()
		patterns = nil
		mu.Unlock()
		service.forget()
		if err := call(); err != nil {
			t.Errorf("Client.%s: %v", method, err)
			continue
		}
		mu.Lock()
		paths := patterns
		mu.Unlock()
		if called := service.forget(); len(paths) != 1 || method != "OpenAPI" && (len(called) != 1 || called[0] != method) {
			t.Errorf("Client.%s asked for %v, which called %v", method, paths, called)
			continue
		}
		if other, twice := served[paths[0]]; twice {
			t.Errorf("%s and %s both ask for %s", other, method, paths[0])
		}
		served[paths[0]] = method
	}
	for _, e := range endpoints() {
		if served[e.method+" /"+Version+e.path] == "" {
			t.Errorf("the client has no method for %s %s", e.method, e.path)
		}
	}
	if len(served) != len(endpoints()) {
		t.Errorf("%d endpoints are used, there are %d", len(served), len(endpoints()))
	}
	for m := range reflect.TypeFor[Service]().Methods() {
		if calls[m.Name] == nil {
			t.Errorf("nothing serves Service.%s", m.Name)
		}
	}
}

// refusedWith sends a request and returns the error that it is refused with.
func refusedWith(t *testing.T, h http.Handler, r *http.Request) (int, gapless.Error, http.Header) {
	t.Helper()
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	var e struct{ Error gapless.Error }
	if err := json.Unmarshal(w.Body.Bytes(), &e); err != nil || e.Error.Code == "" || e.Error.Message == "" {
		t.Fatalf("%s %s: %d %q is not the error JSON (%v)", r.Method, r.URL, w.Code, w.Body, err)
	}
	if w.Header().Get("Content-Type") != "application/json" {
		t.Errorf("%s %s: content type %q", r.Method, r.URL, w.Header().Get("Content-Type"))
	}
	return w.Code, e.Error, w.Header()
}

func TestRefusals(t *testing.T) {
	service := &asked{}
	h := (&Server{Service: service, Log: slog.New(slog.DiscardHandler)}).Local()
	large := `{"process":"` + strings.Repeat("x", MaxBody) + `"}`
	for _, c := range []struct {
		name, method, path, body string
		status                   int
		says                     string
	}{
		{"unknown field", "POST", "/v1/apps/shop/scale", `{"process":"web","instances":1,"color":"red"}`, 400, `unknown field "color"`},
		{"unknown field inside", "POST", "/v1/apps/shop/deploy", `{"kind":"up","app":{"name":"shop","colour":1}}`, 400, "unknown field"},
		{"wrong type", "POST", "/v1/apps/shop/scale", `{"process":"web","instances":"two"}`, 400, "cannot unmarshal"},
		{"not JSON", "POST", "/v1/apps/shop/rollback", `release=v1`, 400, "request body"},
		{"no body", "POST", "/v1/apps/shop/rollback", ``, 400, "request body"},
		{"trailing data", "POST", "/v1/apps/shop/rollback", `{"release":"v1"} {"release":"v2"}`, 400, "more than one JSON value"},
		{"trailing rubbish", "POST", "/v1/apps/shop/rollback", `{"release":"v1"}]`, 400, "more than one JSON value"},
		{"too large", "POST", "/v1/apps/shop/scale", large, 413, "larger than 4 MiB"},
		{"too large behind", "POST", "/v1/apps/shop/scale", `{"process":"web","instances":1}` + strings.Repeat(" ", MaxBody), 413, "larger than 4 MiB"},
		{"a body where none is read", "POST", "/v1/apps/shop/restart", `{}`, 400, "takes none"},
		{"wrong method", "GET", "/v1/apps/shop/deploy", ``, 405, "takes no GET"},
		{"wrong method", "DELETE", "/v1/status", ``, 405, "takes no DELETE"},
		{"unknown path", "GET", "/v1/nothing", ``, 404, "no GET /v1/nothing"},
		{"unknown version", "GET", "/v2/status", ``, 404, "no GET /v2/status"},
		{"app of another name", "POST", "/v1/apps/shop/deploy", `{"kind":"up","app":{"name":"other"}}`, 400, "the body"},
		{"unknown parameter", "GET", "/v1/status?verbose=1", ``, 400, "unknown parameter"},
		{"parameter twice", "GET", "/v1/apps/shop/logs?lines=1&lines=2", ``, 400, "given twice"},
		{"not a number", "GET", "/v1/apps/shop/logs?lines=-1", ``, 400, "not a number"},
		{"not a boolean", "GET", "/v1/apps/shop/logs?follow=yes", ``, 400, "neither true nor false"},
		{"not a number", "GET", "/v1/rollouts/r1/events?since=x", ``, 400, "not a number"},
		{"not a time", "GET", "/v1/audit?since=yesterday", ``, 400, "not a time"},
		{"of the service", "POST", "/v1/apps/shop/rollback", `{"release":"v404"}`, 404, "no release"},
	} {
		t.Run(c.name, func(t *testing.T) {
			service.calls = nil
			status, e, header := refusedWith(t, h, httptest.NewRequest(c.method, c.path, strings.NewReader(c.body)))
			if status != c.status || !strings.Contains(e.Message, c.says) || e.Code.Status() != status {
				t.Errorf("%d %+v; want %d, %q", status, e, c.status, c.says)
			}
			if status == 405 && header.Get("Allow") == "" {
				t.Error("405 without Allow")
			}
			if len(service.calls) > 0 {
				t.Errorf("the service was asked for %v", service.calls)
			}
		})
	}
}

func remoteServer() (http.Handler, *asked, *book) {
	service, gate := &asked{}, &book{}
	return (&Server{Service: service, Gate: gate, Log: slog.New(slog.DiscardHandler)}).Remote(), service, gate
}

func as(token, method, path, body string) *http.Request {
	r := httptest.NewRequest(method, path, strings.NewReader(body))
	if token != "" {
		r.Header.Set("Authorization", "Bearer secret-"+token)
	}
	return r
}

// Each endpoint, with each scope: who has less is refused and asks for
// nothing, and what is for the socket only is refused to all.
func TestScopesAreEnforced(t *testing.T) {
	for _, e := range endpoints() {
		for _, s := range gapless.Scopes() {
			h, service, gate := remoteServer()
			path := strings.NewReplacer("{app}", "shop", "{id}", "r1", "{name}", "ci").Replace("/" + Version + e.path)
			body := ""
			if e.in != nil {
				body = "{}"
				if strings.HasSuffix(path, "/deploy") {
					body = `{"app":{"name":"shop"}}`
				}
			}
			w := httptest.NewRecorder()
			h.ServeHTTP(w, as(string(s), e.method, path, body))
			if may := s.Allows(e.scope) && !e.local; may != (w.Code == 200) || !may && (w.Code != 403 || len(service.calls) > 0) {
				t.Errorf("%s %s with scope %s: %d, calls %v", e.method, e.path, s, w.Code, service.calls)
			}
			act := gate.last()
			if (e.verb != "") != (act.Verb != "") || act.Verb != "" && (act.Token != "t-"+string(s) || act.Peer != "192.0.2.1" || (act.Outcome == gapless.ActOK) != (w.Code == 200)) {
				t.Errorf("%s %s with scope %s: the audit says %+v", e.method, e.path, s, act)
			}
		}
		if e.method != "GET" && e.verb == "" && e.path != "/apps/{app}/plan" && e.path != "/alerts" { // what alerts do is recorded, not that they are repeated
			t.Errorf("%s %s is not audited", e.method, e.path)
		}
	}
}

func TestAuditSaysWhat(t *testing.T) {
	gate := &book{}
	h := (&Server{Service: &asked{}, Gate: gate, Log: slog.New(slog.DiscardHandler)}).Local()
	uid := 1000
	for _, c := range []struct {
		path, body string
		want       gapless.Act
	}{
		{"/v1/apps/shop/scale", `{"process":"web","instances":3}`, gapless.Act{Verb: "scale", App: "shop", Rollout: "r1", Detail: "web=3", Outcome: "ok"}},
		{"/v1/apps/shop/deploy", `{"kind":"up","app":{"name":"shop"},"env":{"KEY":"hush"}}`, gapless.Act{Verb: "up", App: "shop", Rollout: "r1", Outcome: "ok"}},
		{"/v1/apps/shop/rollback", `{"release":"v404"}`, gapless.Act{Verb: "rollback", App: "shop", Detail: "v404", Outcome: "not_found", Message: `no release "v404"`}},
		{"/v1/apps/shop/once", `{"command":["psql","hush"]}`, gapless.Act{Verb: "run-once", App: "shop", Detail: "psql", Outcome: "ok"}},
		{"/v1/apps/shop/scale", `{"hush":1}`, gapless.Act{Verb: "scale", App: "shop", Outcome: "invalid", Message: `request body: json: unknown field "hush"`}},
	} {
		r := httptest.NewRequest("POST", c.path, strings.NewReader(c.body))
		r = r.WithContext(context.WithValue(r.Context(), callerKey{}, caller{Caller: gapless.Caller{User: "alice", UID: &uid}, scope: gapless.ScopeAdmin, local: true}))
		h.ServeHTTP(httptest.NewRecorder(), r)
		have := gate.last()
		if have.User != "alice" || have.UID == nil || *have.UID != uid || have.Time.IsZero() {
			t.Errorf("%s: by %+v at %v", c.path, have.Caller, have.Time)
		}
		have.Caller, have.Time = gapless.Caller{}, time.Time{}
		if have != c.want {
			t.Errorf("%s: %+v, want %+v", c.path, have, c.want)
		}
	}
}

func TestStrangersAreRefusedAndHeldUp(t *testing.T) {
	h, service, _ := remoteServer()
	for i := range strangerBurst + 5 {
		r := as("wrong", "GET", "/v1/status", "")
		if i%2 == 0 {
			r = as("", "GET", "/v1/status", "")
		}
		status, e, header := refusedWith(t, h, r)
		switch {
		case i < strangerBurst && (status != 401 || e.Code != gapless.NotKnown || header.Get("WWW-Authenticate") == ""):
			t.Fatalf("try %d: %d %+v", i, status, e)
		case i >= strangerBurst && (status != 429 || header.Get("Retry-After") == ""):
			t.Fatalf("try %d: %d %+v %v", i, status, e, header)
		}
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, as("read", "GET", "/v1/status", ""))
	if w.Code != 200 {
		t.Errorf("a valid token from the same address: %d", w.Code)
	}
	other := as("", "GET", "/v1/status", "")
	other.RemoteAddr = "192.0.2.2:1"
	if status, _, _ := refusedWith(t, h, other); status != 401 {
		t.Errorf("a stranger from elsewhere: %d", status)
	}
	if len(service.calls) != 1 {
		t.Errorf("strangers reached the service: %v", service.calls)
	}
}

func TestTooManyRequests(t *testing.T) {
	h, _, _ := remoteServer()
	refused := 0
	for range callBurst * 3 {
		w := httptest.NewRecorder()
		h.ServeHTTP(w, as("read", "GET", "/v1/status", ""))
		switch {
		case w.Code == 429 && w.Header().Get("Retry-After") != "":
			refused++
		case w.Code != 200:
			t.Fatalf("%d %s", w.Code, w.Body)
		}
	}
	if refused == 0 {
		t.Error("nothing was refused")
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, as("deploy", "GET", "/v1/status", ""))
	if w.Code != 200 {
		t.Errorf("another token: %d", w.Code)
	}
}

// Who asks again and again for what they may not does not fill the audit.
func TestRefusalsDoNotFloodTheAudit(t *testing.T) {
	h, _, gate := remoteServer()
	for i := range strangerBurst + 5 {
		status, _, header := refusedWith(t, h, as("read", "POST", "/v1/apps/shop/restart", ""))
		if i < strangerBurst && status != 403 || i >= strangerBurst && (status != 429 || header.Get("Retry-After") == "") {
			t.Fatalf("try %d: %d", i, status)
		}
	}
	if n := len(gate.acts); n != strangerBurst {
		t.Errorf("%d acts are recorded", n)
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, as("read", "GET", "/v1/status", ""))
	if w.Code != 200 {
		t.Errorf("what the token may: %d", w.Code)
	}
}

func TestLimiter(t *testing.T) {
	now := time.Unix(0, 0)
	l := newLimiter(2, 3)
	for i, c := range []struct {
		after time.Duration
		key   string
		ok    bool
		wait  time.Duration
	}{
		{0, "a", true, 0}, {0, "a", true, 0}, {0, "a", true, 0},
		{0, "a", false, 500 * time.Millisecond},
		{0, "b", true, 0},
		{250 * time.Millisecond, "a", false, 250 * time.Millisecond},
		{250 * time.Millisecond, "a", true, 0},
		{0, "a", false, 500 * time.Millisecond},
		{-time.Hour, "a", false, 500 * time.Millisecond}, // a clock that was set back gives nothing
		{2 * time.Hour, "a", true, 0}, {0, "a", true, 0}, {0, "a", true, 0}, {0, "a", false, 500 * time.Millisecond},
	} {
		now = now.Add(c.after)
		if ok, wait := l.take(c.key, now); ok != c.ok || wait != c.wait {
			t.Errorf("%d: %v %v, want %v %v", i, ok, wait, c.ok, c.wait)
		}
	}
	for i := range maxRemembered * 2 {
		l.take(string(rune('0'+i%10))+time.Duration(i).String(), now)
	}
	if len(l.buckets) > maxRemembered {
		t.Errorf("%d buckets are kept", len(l.buckets))
	}
}

func TestStreamsAreBounded(t *testing.T) {
	s := &streams{of: map[string]int{}}
	open := 0
	for s.open("a") {
		open++
	}
	if open != maxPerCaller {
		t.Errorf("one caller has %d streams", open)
	}
	for i := 0; s.open(string(rune('b' + i%20))); i++ {
		open++
	}
	if open != maxStreams {
		t.Errorf("%d streams in all", open)
	}
	s.close("a")
	if !s.open("a") {
		t.Error("a place that was given back is not free")
	}
}

// quietly is a Service whose logs never come to an end.
type quietly struct{ *asked }

func (quietly) Logs(ctx context.Context, _ string, _ LogRequest) (iter.Seq2[LogLine, error], error) {
	return func(func(LogLine, error) bool) { <-ctx.Done() }, nil
}

func TestRevokedTokenEndsItsStreams(t *testing.T) {
	gate := &book{}
	server := httptest.NewTLSServer((&Server{Service: quietly{&asked{}}, Gate: gate, Log: slog.New(slog.DiscardHandler)}).Remote())
	defer server.Close()
	c, err := NewRemote(RemoteConfig{Host: server.URL, Token: "secret-read", Fingerprint: Fingerprint(server.Certificate().Raw)})
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- drain(c.Logs(t.Context(), "shop", LogRequest{Follow: true})) }()
	time.Sleep(50 * time.Millisecond) // whether the stream is open yet or not: it must end
	gate.mu.Lock()
	gate.revoked = true
	gate.mu.Unlock()
	select {
	case <-ended:
	case <-time.After(10 * stillKnown):
		t.Fatal("the stream goes on")
	}
}

func TestRemoteClientTrusts(t *testing.T) {
	h, _, _ := remoteServer()
	server := httptest.NewTLSServer(h)
	defer server.Close()
	server.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelInfo)
	pin := Fingerprint(server.Certificate().Raw)
	colons := strings.TrimPrefix(pin, "sha256:")
	for i := len(colons) - 2; i > 0; i -= 2 {
		colons = colons[:i] + ":" + colons[i:]
	}
	other := "sha256:" + strings.Repeat("0", 64)
	for _, c := range []struct {
		name string
		cfg  RemoteConfig
		code gapless.Code
		says string
	}{
		{"the pinned one", RemoteConfig{Fingerprint: pin}, "", ""},
		{"as openssl writes it", RemoteConfig{Fingerprint: strings.ToUpper(colons)}, "", ""},
		{"another one", RemoteConfig{Fingerprint: other}, gapless.Unavailable, pin},
		{"nobody vouches for it", RemoteConfig{}, gapless.Unavailable, "certificate"},
	} {
		t.Run(c.name, func(t *testing.T) {
			c.cfg.Host, c.cfg.Token = server.URL, "secret-read"
			client, err := NewRemote(c.cfg)
			if err != nil {
				t.Fatal(err)
			}
			_, err = client.Status(t.Context())
			if gapless.CodeOf(err) != c.code || err != nil && (!strings.Contains(err.Error(), c.says) || gapless.HintOf(err) == "" || strings.Contains(err.Error(), "secret-")) {
				t.Errorf("%v (%s)", err, gapless.HintOf(err))
			}
		})
	}
	for _, cfg := range []RemoteConfig{
		{Host: "http://host:1", Token: "x"}, {Host: "host:1", Token: "x"}, {Host: "https://host:1/path", Token: "x"},
		{Host: "https://user@host:1", Token: "x"}, {Host: "https://host:1"}, {Host: "https://host:1", Token: "x y"},
		{Host: "https://host:1", Token: "x", Fingerprint: "sha256:12"}, {Host: "https://host:1", Token: "x", CA: filepath.Join(t.TempDir(), "none")},
	} {
		if _, err := NewRemote(cfg); gapless.CodeOf(err) != gapless.Invalid {
			t.Errorf("%+v: %v", cfg, err)
		}
	}
}

// FuzzRequests sends anything to every endpoint: the answer is never a fault
// of ours, and a refusal is always the error JSON.
func FuzzRequests(f *testing.F) {
	f.Add(uint8(0), "", []byte(""))
	f.Add(uint8(2), "", []byte(`{"kind":"deploy","app":{"name":"shop","processes":[{"name":"web","instances":1}]},"env":{"A":"b"}}`))
	f.Add(uint8(5), "", []byte(`{"process":"web","instances":1e99}`))
	f.Add(uint8(10), "", []byte(`{"release":null} `))
	f.Add(uint8(14), "lines=1&follow=true&instance=%ff", []byte(nil))
	f.Add(uint8(16), "since=99999999999999999999", []byte(nil))
	f.Add(uint8(19), "", []byte(`{"name":"ci","scope":"admin","expires":"-1s"}`))
	f.Add(uint8(21), "since=0000-01-01T00:00:00Z;x", []byte(nil))
	f.Add(uint8(26), "", []byte(`{"command":["\u0000",""],"timeout":"9999999h"}`))
	f.Add(uint8(30), "%zz", bytes.Repeat([]byte("["), 20000))
	h := (&Server{Service: &asked{}, Gate: &book{}, Log: slog.New(slog.DiscardHandler)}).Local()
	all := endpoints()
	f.Fuzz(func(t *testing.T, which uint8, query string, body []byte) {
		e := all[int(which)%len(all)]
		r := httptest.NewRequest(e.method, strings.NewReplacer("{app}", "shop", "{id}", "r1", "{name}", "ci").Replace("/"+Version+e.path), bytes.NewReader(body))
		r.URL.RawQuery = query
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		if w.Code >= 500 {
			t.Fatalf("%s %s?%s: %d %s", e.method, e.path, query, w.Code, w.Body)
		}
		var answer struct{ Error *gapless.Error }
		if err := json.Unmarshal(w.Body.Bytes(), &answer); w.Code != 200 && (err != nil || answer.Error == nil || answer.Error.Message == "") {
			t.Fatalf("%s %s?%s: %d %q is not the error JSON", e.method, e.path, query, w.Code, w.Body)
		}
	})
}

// What is served is the file in the repository.
func TestOpenAPIIsServed(t *testing.T) {
	h := Handler(&asked{}, slog.New(slog.DiscardHandler))
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequest("GET", "/v1/openapi.json", nil))
	var have, want any
	file, err := os.ReadFile("openapi.json")
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(file, &want); err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(w.Body.Bytes(), &have); err != nil || !reflect.DeepEqual(have, want) {
		t.Errorf("what is served is not the file (%v)", err)
	}
}
