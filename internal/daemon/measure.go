package daemon

import (
	"context"
	"sync"
	"time"

	"gapless"
	"gapless/internal/api"
	"gapless/internal/measure"
	"gapless/internal/rollout"
)

// meter implements rollout.Meter: each check is a goroutine that ends in time.
// Of each app it knows one rollout, the last that was asked about.
type meter struct {
	d *Daemon

	mu   sync.Mutex
	apps map[string]*metered
}

// metered is what was asked for one rollout.
type metered struct {
	rollout string
	asked   map[string]rollout.Asked
}

// Asked implements rollout.Meter.
func (m *meter) Asked(id string) map[string]rollout.Asked {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, a := range m.apps {
		if a.rollout == id {
			out := make(map[string]rollout.Asked, len(a.asked))
			for name, asked := range a.asked {
				out[name] = asked
			}
			return out
		}
	}
	return nil
}

// Ask implements rollout.Meter.
func (m *meter) Ask(q rollout.Question) {
	m.mu.Lock()
	defer m.mu.Unlock()
	a := m.apps[q.App]
	if a == nil || a.rollout != q.Rollout {
		a = &metered{rollout: q.Rollout, asked: map[string]rollout.Asked{}}
		if m.apps == nil {
			m.apps = map[string]*metered{}
		}
		m.apps[q.App] = a
	}
	asked := a.asked[q.Metric.Name]
	if asked.Pending {
		return
	}
	asked.Pending = true
	a.asked[q.Metric.Name] = asked
	m.d.work.Go(func() {
		check := m.d.check(m.d.ctx, q)
		m.mu.Lock()
		if m.d.ctx.Err() == nil { // else it says nothing of the source
			a.asked[q.Metric.Name] = rollout.Asked{Check: check}
		}
		m.mu.Unlock()
		m.d.wake(q.App)
	})
}

// check asks a metric once: about the candidate, and about stable where it is
// compared.
func (d *Daemon) check(ctx context.Context, q rollout.Question) gapless.MetricCheck {
	names := gapless.QueryNames{App: q.App, Stable: q.Stable, Candidate: q.Candidate}
	var c gapless.MetricCheck
	var both sync.WaitGroup
	read := func(dst *gapless.Reading, release string) {
		both.Go(func() {
			of := names
			of.Release = release
			env, err := d.keysOf(q.App, q.Candidate)
			if err != nil {
				*dst = gapless.Reading{Release: release, Kind: gapless.ReadError, Why: err.Error(), Hint: gapless.HintOf(err)}
				return
			}
			*dst = measure.Read(ctx, q.Metric, env, of, time.Now())
		})
	}
	read(&c.Candidate, q.Candidate)
	if q.Metric.Compare != nil {
		read(&c.Stable, q.Stable)
	}
	both.Wait()
	c.Time = time.Now().UTC().Round(0)
	return c
}

// keysOf are the variables of a release that the keys of sources may be in.
func (d *Daemon) keysOf(app, release string) (map[string]string, error) {
	rel, err := d.release(app, release)
	if err != nil {
		return nil, err
	}
	env, err := d.vault.environment(rel)
	if err != nil {
		return nil, err
	}
	return env.of(""), nil
}

// CheckMetrics implements api.Service.
func (d *Daemon) CheckMetrics(ctx context.Context, app string) ([]api.MetricReading, error) {
	return d.readMetrics(ctx, app, nil)
}

// TryMetrics implements api.Service.
func (d *Daemon) TryMetrics(ctx context.Context, app string, req api.MetricRequest) ([]api.MetricReading, error) {
	if len(req.Metrics) == 0 {
		return nil, gapless.Errorf(gapless.Invalid, "no metrics are given")
	}
	if err := gapless.ValidateMetrics(req.Metrics); err != nil {
		return nil, err
	}
	return d.readMetrics(ctx, app, req.Metrics)
}

// readMetrics asks once about stable, and about the candidate where there is one.
// Without metrics it asks those of the release that is rolled out, else of stable.
func (d *Daemon) readMetrics(ctx context.Context, name string, metrics []gapless.Metric) ([]api.MetricReading, error) {
	a, err := d.app(name)
	if err != nil {
		return nil, err
	}
	s := a.runner.State()
	if s.Stable == "" {
		return nil, gapless.Errorf(gapless.Conflict, "%s has no release that serves, so that there is nothing to ask about", name).
			WithHint("start it with: gapless up")
	}
	newest, candidate := s.Stable, ""
	if s.Busy() && s.Rollout.To != s.Stable {
		candidate, newest = s.Rollout.To, s.Rollout.To
	}
	if metrics == nil {
		spec := d.specOf(name, newest)
		if spec == nil || len(spec.Judge.Metrics) == 0 {
			return nil, gapless.Errorf(gapless.NotFound, "%s of %s is judged by no metric from outside", newest, name).
				WithHint("write judge: { metrics: … } into gapless.yaml; in its directory, gapless metrics check asks what the file says")
		}
		metrics = spec.Judge.Metrics
	}
	env, err := d.nextKeys(name, newest)
	if err != nil {
		return nil, err
	}
	releases := []string{s.Stable}
	if candidate != "" {
		releases = append(releases, candidate)
	}
	out := make([]api.MetricReading, len(metrics)*len(releases))
	var all sync.WaitGroup
	for i, m := range metrics {
		for j, release := range releases {
			all.Go(func() {
				names := gapless.QueryNames{App: name, Release: release, Stable: s.Stable, Candidate: candidate}
				r := api.MetricReading{Metric: m.Name, Source: m.Source(), Role: string(rollout.Stable),
					Reading: measure.Read(ctx, m, env, names, time.Now())}
				if release == candidate {
					r.Role = string(rollout.Candidate)
				}
				r.Reached = r.Kind == gapless.ReadError && reached(ctx, m, env)
				out[i*len(releases)+j] = r
			})
		}
	}
	all.Wait()
	for i, m := range metrics {
		of := out[i*len(releases) : (i+1)*len(releases)]
		for j := range of {
			of[j].State, of[j].Meaning = rollout.JudgeCheck(m, gapless.MetricCheck{Candidate: of[j].Reading, Stable: of[0].Reading})
		}
	}
	return out, nil
}

// nextKeys are the variables that keys may be in, with the secrets that were
// set since: those count from the next release on, and are what is to be tried.
func (d *Daemon) nextKeys(app, release string) (map[string]string, error) {
	env, err := d.keysOf(app, release)
	if err != nil {
		return nil, err
	}
	secrets, err := d.vault.secrets(app)
	if err != nil {
		return nil, err
	}
	for name, s := range secrets {
		env[name] = s.Value
	}
	return env, nil
}

// reached reports whether a source answers anything at all.
func reached(ctx context.Context, m gapless.Metric, env map[string]string) bool {
	src, err := measure.Open(m, env)
	if err != nil {
		return false
	}
	ctx, cancel := context.WithTimeout(ctx, measure.Timeout)
	defer cancel()
	return src.Ping(ctx) == nil
}
