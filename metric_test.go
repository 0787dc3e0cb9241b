package gapless

import (
	"strings"
	"testing"
	"time"
)

func TestExpandQuery(t *testing.T) {
	names := QueryNames{App: "shop", Release: "v7", Stable: "v6", Candidate: "v7"}
	for query, want := range map[string]string{
		"up":                       "up",
		`x{release="{{release}}"}`: `x{release="v7"}`,
		"{{ app }}.{{stable}}.{{candidate}}{{release}}": "shop.v6.v7v7",
		`x{a="{1}"}`: `x{a="{1}"}`,
		"}}":         "}}",
	} {
		if got, err := ExpandQuery(query, names); err != nil || got != want {
			t.Errorf("%s: %q, %v; want %q", query, got, err, want)
		}
	}
	for query, hint := range map[string]string{
		"{{relase}}":    "did you mean {{release}}?",
		"{{zzz}}":       "known placeholders: {{app}}, {{release}}, {{stable}}, {{candidate}}",
		"{{}}":          "known placeholders",
		"x{{release":    "write {{release}}",
		"{{{release}}}": "did you mean {{release}}?",
	} {
		if got, err := ExpandQuery(query, names); err == nil || !strings.Contains(HintOf(err), hint) {
			t.Errorf("%s: %q, %v (%s)", query, got, err, HintOf(err))
		}
	}
	for _, name := range []string{`v7"}`, "v7 or vector(0)", "", "-v7", strings.Repeat("v", 64), "v7\n", "v'7"} {
		if got, err := ExpandQuery("{{release}}", QueryNames{Release: name}); err == nil {
			t.Errorf("%q became %q", name, got)
		}
	}
}

func TestMetricsAreValidated(t *testing.T) {
	fine := Metric{Name: "errors", Prometheus: &PrometheusQuery{URL: "http://x", Query: "up"}, Interval: Duration(time.Second), Failures: 1}
	if err := ValidateMetrics([]Metric{fine}); err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string]func(*Metric){
		"a name that is none": func(m *Metric) { m.Name = "Errors" },
		"no source":           func(m *Metric) { m.Prometheus = nil },
		"two sources":         func(m *Metric) { m.Datadog = &DatadogQuery{} },
		"asked all the time":  func(m *Metric) { m.Interval = 0 },
		"no limit":            func(m *Metric) { m.Failures = 0 },
		"a negative time":     func(m *Metric) { m.Delay = -1 },
		"a placeholder":       func(m *Metric) { m.Prometheus = &PrometheusQuery{Query: "{{x}}"} },
		"a password":          func(m *Metric) { m.Prometheus = &PrometheusQuery{URL: "http://me:secret@x", Query: "up"} },
		"no address":          func(m *Metric) { m.Prometheus = &PrometheusQuery{URL: "http://me:sec ret@[x", Query: "up"} },
		"no period":           func(m *Metric) { m.Prometheus, m.CloudWatch = nil, &CloudWatchQuery{Query: "x"} },
	} {
		m := fine
		change(&m)
		if err := ValidateMetrics([]Metric{m}); err == nil {
			t.Errorf("%s is accepted", name)
		} else if strings.Contains(err.Error(), "sec") {
			t.Errorf("%s is shown: %v", name, err)
		}
	}
	if ValidateMetrics([]Metric{fine, fine}) == nil {
		t.Error("two of a name are accepted")
	}
	many := make([]Metric, 21)
	if ValidateMetrics(many) == nil {
		t.Error("21 are accepted")
	}
}

func TestSyntheticIsValidated(t *testing.T) {
	for s, ok := range map[Synthetic]bool{
		{}:                              true,
		{Path: "/search?q=x", RPS: 5}:   true,
		{Path: "/", RPS: SyntheticMost}: true,
		{Path: "search"}:                false,
		{Path: "/", RPS: -1}:            false,
		{Path: "/", RPS: 1_000_000_001}: false,
	} {
		if err := s.Validate(); (err == nil) != ok {
			t.Errorf("%+v: %v", s, err)
		}
	}
}
