package main

import "fmt"

// minute is what the tools that look once a minute see.
type minute struct {
	number            int // 1, 2, …
	candidate, stable seen
}

// seen is what a metric store knows of one release.
type seen struct {
	requests, bad uint64
	latency       histogram
}

func (s *seen) add(a *arm) {
	s.requests += a.requests
	s.bad += a.bad
	s.latency.add(&a.latency)
}

// errorRate is 0 where there was nothing.
func (s *seen) errorRate() float64 {
	if s.requests == 0 {
		return 0
	}
	return float64(s.bad) / float64(s.requests)
}

// decision is what a rule makes of what it saw.
type decision int

const (
	waiting decision = iota
	takenBack
	promoted
)

func (d decision) String() string { return [...]string{"waiting", "taken back", "promoted"}[d] }

// rule is a tool that looks at every minute. Its plan is used where whole
// rollouts are compared: the candidate's share from a second on.
type rule interface {
	name() string
	minute(*minute) decision
	share(second float64) float64 // 1: it is promoted
}

// peers are the rules that the judge is compared with, new ones.
func peers() []rule {
	return []rule{&argo{limit: 0}, &argo{limit: 2}, &argo{limit: 4}, &flagger{threshold: 5}, &kayenta{}, &codeDeploy{}}
}

// argo is an analysis of Argo Rollouts: every interval of 60 s one query,
// failed if over 1 % of the candidate's answers are bad; taken back when more
// than failureLimit measurements failed, of all. Its documentation's steps are
// 20, 40, 60 and 80 % for ten minutes each.
type argo struct{ limit, failed int }

func (a *argo) name() string { return fmt.Sprintf("Argo, limit %d", a.limit) }

func (a *argo) minute(m *minute) decision {
	if m.candidate.errorRate() > 0.01 {
		a.failed++
	}
	if a.failed > a.limit {
		return takenBack
	}
	return waiting
}

func (a *argo) share(second float64) float64 {
	return min(1, 0.2*(1+float64(int(second/600))))
}

// flagger is a canary of Flagger: every minute a success rate under 99 %, a
// p99 over 500 ms or no traffic is a failed check; taken back when so many
// checks failed, of all. Its documentation's steps are 5 % a minute up to 50 %.
type flagger struct{ threshold, failed int }

func (f *flagger) name() string { return fmt.Sprintf("Flagger, %d checks", f.threshold) }

func (f *flagger) minute(m *minute) decision {
	c := &m.candidate
	if c.requests == 0 || c.errorRate() > 0.01 || c.latency.quantile(0.99) > 500 {
		f.failed++
	}
	if f.failed >= f.threshold {
		return takenBack
	}
	return waiting
}

func (f *flagger) share(second float64) float64 {
	if second >= 600 {
		return 1
	}
	return 0.05 * (1 + float64(int(second/60)))
}

// codeDeploy is AWS CodeDeploy's canary of 10 % for five minutes with a
// CloudWatch alarm: over 1 % bad answers of the candidate in a minute.
type codeDeploy struct{}

func (codeDeploy) name() string { return "CodeDeploy" }

func (codeDeploy) minute(m *minute) decision {
	switch {
	case m.number > 5:
		return promoted
	case m.candidate.errorRate() > 0.01:
		return takenBack
	}
	return waiting
}

func (codeDeploy) share(second float64) float64 {
	if second >= 300 {
		return 1
	}
	return 0.1
}
