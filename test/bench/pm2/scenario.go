package main

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"time"

	"gapless/internal/load"
)

// Scenario is one thing that is done to an app under load.
type Scenario struct {
	App       string
	Script    string
	Variant   string // how the app handles signals, for the table
	Action    string // for the table
	Instances int
	BootMS    string
	Mix       load.Mix
	Tail      time.Duration // load after the action
	Act       func(context.Context, Subject, *App) error
}

// everything is the mix of all that users do.
var everything = load.Mix{
	KeepAlive: 100, KeepAliveClients: 6,
	Fresh: 60,
	Slow:  2, SlowTime: 2500 * time.Millisecond,
	Upload: 1, UploadTime: 2 * time.Second,
	WebSockets: 4,
	SSE:        2,
}

// short is what PM2 is good at.
var short = load.Mix{KeepAlive: 100, KeepAliveClients: 6, Fresh: 60}

func scenarios() []Scenario {
	newVersion := func(ctx context.Context, s Subject, a *App) error {
		if err := a.Set("VERSION", "v2"); err != nil {
			return err
		}
		return s.Deploy(ctx)
	}
	broken := func(ctx context.Context, s Subject, a *App) error {
		if err := a.Set("BREAK", "throw"); err != nil {
			return err
		}
		return s.Deploy(ctx)
	}
	restart := func(ctx context.Context, s Subject, _ *App) error { return s.Restart(ctx) }
	kill := func(ctx context.Context, s Subject, _ *App) error { return s.KillDaemon(ctx) }

	var all []Scenario
	for _, app := range []string{"http", "express"} {
		plain := Scenario{App: app, Script: "server.js", Variant: "no signal handling", Instances: 2, Mix: everything}
		s := plain
		s.Action, s.Tail, s.Act = "new version", 3*time.Second, newVersion
		all = append(all, s)
		s.Script, s.Variant = "sigint.js", "closes on SIGINT"
		all = append(all, s)
		s = plain
		s.Action, s.Tail, s.Act = "broken new version (throws at start)", 10*time.Second, broken
		all = append(all, s)
		s = plain
		s.Action, s.Tail, s.Act = "kill -9 of the daemon", 5*time.Second, kill
		all = append(all, s)
		s = plain
		s.Action, s.Tail, s.Act = "restart 4 instances, 0.3 s boot, short requests", 3*time.Second, restart
		s.Instances, s.BootMS, s.Mix = 4, "300", short
		all = append(all, s)
	}
	return all
}

// Result is what a scenario did to the users of a subject.
type Result struct {
	Subject string      `json:"subject"`
	App     string      `json:"app"`
	Variant string      `json:"variant"`
	Action  string      `json:"action"`
	Seconds float64     `json:"seconds"`          // until the command came back
	Exit    int         `json:"exit"`             // of the command
	First   float64     `json:"first_loss"`       // seconds from the action to the first loss; negative: none
	Last    float64     `json:"last_loss"`        // and to the last one
	Down    bool        `json:"down_at_the_end"`  // nothing answered at the end of the run
	Hidden  *Hidden     `json:"hidden,omitempty"` // nil: the subject does neither
	Load    load.Report `json:"load"`
}

// Hidden is what a subject did to requests that clients do not see. It is no
// loss, but it could hide one.
type Hidden struct {
	Retried uint64  `json:"retried"`  // given to another instance
	Held    uint64  `json:"held"`     // waited because none was ready
	HeldMax float64 `json:"held_max"` // seconds, the longest of these
}

// hider is a subject that repeats or holds requests, and counts it.
type hider interface {
	Hidden(context.Context) (Hidden, error)
}

// warmUp is how long the load runs before the action.
const warmUp = 3 * time.Second

// measure runs one scenario on one subject and stops the subject.
func measure(ctx context.Context, s Subject, sc Scenario, a *App) (res Result, err error) {
	res = Result{Subject: s.Name(), App: sc.App, Variant: sc.Variant, Action: sc.Action, First: -1, Last: -1}
	a.Script, a.Instances = sc.Script, sc.Instances
	if err := a.Set("VERSION", "v1"); err != nil {
		return res, err
	}
	if sc.BootMS != "" {
		if err := a.Set("BOOT_MS", sc.BootMS); err != nil {
			return res, err
		}
	}
	defer func() {
		if stopErr := s.Stop(); err == nil && stopErr != nil && ctx.Err() == nil {
			err = fmt.Errorf("stop: %w", stopErr)
		}
	}()
	if err := s.Start(ctx, a); err != nil {
		return res, err
	}
	run, err := load.Start(ctx, load.Config{URL: a.URL(), Mix: sc.Mix})
	if err != nil {
		return res, err
	}
	if err := pause(ctx, warmUp); err != nil {
		return res, err
	}
	if before := run.Report(); before.OK != before.Requests {
		run.Stop()
		return res, fmt.Errorf("void: losses before anything was done\n%v", before)
	}
	begin := time.Now()
	acted := sc.Act(ctx, s, a)
	res.Seconds = time.Since(begin).Seconds()
	if exit := (*exec.ExitError)(nil); errors.As(acted, &exit) {
		res.Exit = exit.ExitCode()
	} else if acted != nil {
		run.Stop()
		return res, acted
	}
	if err := pause(ctx, sc.Tail); err != nil {
		return res, err
	}
	res.Down = true
	for range 3 { // one hang is a loss, not an outage
		res.Down = res.Down && !answers(a)
	}
	res.Load = run.Stop()
	if h, ok := s.(hider); ok {
		hidden, err := h.Hidden(ctx)
		if err != nil {
			return res, err
		}
		res.Hidden = &hidden
	}
	for _, sample := range run.Samples() {
		if sample.Err == "" {
			continue
		}
		at := sample.End.Sub(begin).Seconds()
		if sample.Err == load.Hang {
			at = sample.Start.Sub(begin).Seconds() // lost from the beginning
		}
		if res.First < 0 || at < res.First {
			res.First = max(at, 0)
		}
		res.Last = max(res.Last, at)
	}
	return res, ctx.Err()
}

func pause(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(d):
		return nil
	}
}
