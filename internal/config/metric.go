package config

import (
	"math"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"gapless"

	"github.com/goccy/go-yaml/ast"
)

// Bounds of what may be asked outside.
const (
	mostMetrics = 10
	mostParts   = 10   // expressions that another one is made of
	longest     = 4096 // bytes of a query
)

// Defaults of metrics. Values of vendors are minutes old when they can be had.
const (
	metricInterval  = gapless.Duration(30 * time.Second)
	metricDelay     = gapless.Duration(time.Minute)
	metricFailures  = 3
	metricFresh     = gapless.Duration(time.Minute)
	metricVendor    = gapless.Duration(5 * time.Minute)
	metricWindow    = gapless.Duration(10 * time.Minute)
	cloudWatchTime  = gapless.Duration(time.Minute)
	datadogAPIKey   = "DD_API_KEY"
	datadogAppKey   = "DD_APP_KEY"
	cloudWatchSelf  = "gapless" // the ID of the main expression
	metricNameLimit = 40
)

var (
	regionForm     = regexp.MustCompile(`^[a-z]{2,3}(-[a-z]+)+-[0-9]+$`)
	expressionForm = regexp.MustCompile(`^[a-z][A-Za-z0-9_]*$`)
	siteForm       = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]*[a-z0-9])?(\.[a-z0-9]([a-z0-9-]*[a-z0-9])?)+$`)
)

// metrics reads the list of what a candidate is judged by from outside.
func (r *reader) metrics(dst *[]gapless.Metric) setter {
	return func(n ast.Node) {
		list, ok := n.(*ast.SequenceNode)
		if !ok {
			r.fail(n, faultf("metrics is %s, but must be a list", kind(n)).withHint("begin each with a hyphen: - name: errors"))
			return
		}
		if len(list.Values) > mostMetrics {
			r.fail(n, faultf("metrics lists %d metrics, but must list at most %d", len(list.Values), mostMetrics))
			return
		}
		seen := map[string]bool{}
		for _, v := range list.Values {
			before := len(r.problems.list)
			m := gapless.Metric{Interval: metricInterval, Delay: metricDelay, Failures: metricFailures}
			r.object(v, "a metric", r.metricKeys(&m))
			if len(r.problems.list) > before {
				continue
			}
			r.fail(v, completeMetric(&m))
			if seen[m.Name] {
				r.fail(v, faultf("two metrics are named %s", m.Name))
			}
			seen[m.Name] = true
			*dst = append(*dst, m)
		}
	}
}

func (r *reader) metricKeys(m *gapless.Metric) map[string]setter {
	return map[string]setter{
		"name": r.str(&m.Name, "name", func(v string) *fault {
			if !nameForm.MatchString(v) || len(v) > metricNameLimit {
				return faultf("%s is not a name of a metric", quote(v)).withHint("1 to %d lower-case letters, digits and inner hyphens", metricNameLimit)
			}
			return nil
		}),
		"prometheus": func(n ast.Node) {
			m.Prometheus = &gapless.PrometheusQuery{}
			r.object(n, "prometheus", r.prometheusKeys(m.Prometheus))
		},
		"datadog": func(n ast.Node) {
			m.Datadog = &gapless.DatadogQuery{Window: metricWindow, APIKey: datadogAPIKey, AppKey: datadogAppKey}
			r.object(n, "datadog", r.datadogKeys(m.Datadog))
		},
		"cloudwatch": func(n ast.Node) {
			m.CloudWatch = &gapless.CloudWatchQuery{Period: cloudWatchTime, Window: metricWindow}
			r.object(n, "cloudwatch", r.cloudWatchKeys(m.CloudWatch))
		},
		"max":      r.number(&m.Max, "max"),
		"min":      r.number(&m.Min, "min"),
		"compare":  r.compare(&m.Compare),
		"interval": r.duration(&m.Interval, "interval", time.Second, time.Hour),
		"delay":    r.duration(&m.Delay, "delay", 0, 24*time.Hour),
		"failures": r.whole(&m.Failures, "failures", 1, 100),
		"stale":    r.duration(&m.Stale, "stale", time.Second, 24*time.Hour),
	}
}

func (r *reader) prometheusKeys(q *gapless.PrometheusQuery) map[string]setter {
	return map[string]setter{
		"url":      r.str(&q.URL, "url", checkSource),
		"query":    r.str(&q.Query, "query", checkQuery),
		"token":    r.str(&q.Token, "token", checkKeyName),
		"user":     r.str(&q.User, "user", checkKeyName),
		"password": r.str(&q.Password, "password", checkKeyName),
	}
}

func (r *reader) datadogKeys(q *gapless.DatadogQuery) map[string]setter {
	return map[string]setter{
		"site": r.str(&q.Site, "site", func(v string) *fault {
			if !siteForm.MatchString(v) {
				return faultf("%s is not a site of Datadog", quote(v)).withHint("such as datadoghq.com, datadoghq.eu or us5.datadoghq.com")
			}
			return nil
		}),
		"url":     r.str(&q.URL, "url", checkSource),
		"query":   r.str(&q.Query, "query", checkQuery),
		"window":  r.duration(&q.Window, "window", time.Minute, 24*time.Hour),
		"api_key": r.str(&q.APIKey, "api_key", checkKeyName),
		"app_key": r.str(&q.AppKey, "app_key", checkKeyName),
	}
}

func (r *reader) cloudWatchKeys(q *gapless.CloudWatchQuery) map[string]setter {
	return map[string]setter{
		"region": r.str(&q.Region, "region", func(v string) *fault {
			if !regionForm.MatchString(v) {
				return faultf("%s is not a region of AWS", quote(v)).withHint("such as eu-central-1")
			}
			return nil
		}),
		"url":    r.str(&q.URL, "url", checkSource),
		"query":  r.str(&q.Query, "query", checkQuery),
		"period": r.duration(&q.Period, "period", time.Second, 24*time.Hour),
		"window": r.duration(&q.Window, "window", time.Minute, 3*time.Hour),
		"with": func(n ast.Node) {
			q.With = map[string]string{}
			r.each(n, "with", func(key string, at ast.MapKeyNode, value ast.Node) {
				if !expressionForm.MatchString(key) || key == cloudWatchSelf {
					r.fail(at, faultf("%s cannot name an expression", quote(key)).withHint("a lower-case letter, then letters, digits and underscores; not %s", cloudWatchSelf))
					return
				}
				var text string
				r.str(&text, key, checkQuery)(value)
				q.With[key] = text
			})
			if len(q.With) > mostParts {
				r.fail(n, faultf("with names %d expressions, but must name at most %d", len(q.With), mostParts))
			}
		},
	}
}

// compare reads how many times as much as stable has is fine, or more.
func (r *reader) compare(dst **gapless.Comparison) setter {
	return func(n ast.Node) {
		c := &gapless.Comparison{}
		switch n.(type) {
		case *ast.MappingNode, *ast.MappingValueNode:
			before := len(r.problems.list)
			r.object(n, "compare", r.compareKeys(c))
			if len(r.problems.list) == before && c.AtMost == 0 && c.AtLeast == 0 {
				r.fail(n, faultf("compare has neither at_most nor at_least").withHint("write compare: 1.5, for at most 1.5 times as much as the stable release has"))
			}
		default:
			r.positive(&c.AtMost, "compare")(n)
		}
		*dst = c
	}
}

func (r *reader) compareKeys(c *gapless.Comparison) map[string]setter {
	return map[string]setter{
		"at_most":  r.positive(&c.AtMost, "at_most"),
		"at_least": r.positive(&c.AtLeast, "at_least"),
		"slack":    r.positive(&c.Slack, "slack"),
	}
}

// number reads a finite number.
func (r *reader) number(dst **float64, what string) setter {
	return func(n ast.Node) {
		text, ok := r.scalar(n, what)
		if !ok {
			return
		}
		v, err := strconv.ParseFloat(strings.ReplaceAll(text, "_", ""), 64)
		if err != nil || math.IsNaN(v) || math.IsInf(v, 0) {
			f := faultf("%s is %s, but must be a number", what, quote(text))
			if share, shared := parseShare(text); shared == nil {
				f = f.withHint("write %v", share)
			}
			r.fail(n, f)
			return
		}
		*dst = &v
	}
}

// positive reads a finite number over 0.
func (r *reader) positive(dst *float64, what string) setter {
	return func(n ast.Node) {
		var v *float64
		r.number(&v, what)(n)
		switch {
		case v == nil:
		case *v <= 0:
			r.fail(n, faultf("%s is %v, but must be over 0", what, *v))
		default:
			*dst = *v
		}
	}
}

// checkSource accepts the address of an HTTP API.
func checkSource(v string) *fault {
	u, err := url.Parse(v)
	switch {
	case err != nil, u.Scheme != "http" && u.Scheme != "https", u.Hostname() == "":
		return faultf("%s is not the address of an HTTP API", quote(v)).withHint("write it as http://127.0.0.1:9090")
	case u.User != nil:
		return faultf("the address has a user or a password in it").withHint("put them into secrets, and name these: user: PROM_USER, password: PROM_PASSWORD")
	case u.RawQuery != "" || u.ForceQuery || u.Fragment != "":
		return faultf("%s has more than a path", quote(v)).withHint("write it as http://127.0.0.1:9090")
	}
	return nil
}

// checkQuery accepts a query that can be asked; what it means only its source knows.
func checkQuery(v string) *fault {
	switch {
	case strings.TrimSpace(v) == "":
		return faultf("the query is empty")
	case len(v) > longest:
		return faultf("the query has %d bytes, but must have at most %d", len(v), longest)
	}
	if _, err := gapless.ExpandQuery(v, gapless.QueryNames{App: "a", Release: "v2", Stable: "v1", Candidate: "v2"}); err != nil {
		return faultf("%s", err.Error()).withHint("%s", gapless.HintOf(err))
	}
	return nil
}

// checkKeyName accepts the name of a variable, and shows no value that stands
// in its place.
func checkKeyName(v string) *fault {
	if !envNameForm.MatchString(v) {
		return faultf("what is written here is not the name of a variable").
			withHint("a key is not written into the file: gapless secrets set NAME, and NAME here")
	}
	return nil
}

// completeMetric fills in what follows from the rest, and says what is missing.
func completeMetric(m *gapless.Metric) *fault {
	sources := 0
	for _, given := range []bool{m.Prometheus != nil, m.Datadog != nil, m.CloudWatch != nil} {
		if given {
			sources++
		}
	}
	name := m.Name
	switch {
	case name == "":
		return faultf("a metric has no name").withHint("write name: errors")
	case sources == 0:
		return faultf("metric %s has no source", name).withHint("write prometheus, datadog or cloudwatch: { query: … }")
	case sources > 1:
		return faultf("metric %s has more than one source", name).withHint("make several metrics of it")
	case m.Max == nil && m.Min == nil && m.Compare == nil:
		return faultf("metric %s has no bound", name).withHint("write max, min or compare")
	case m.Max != nil && m.Min != nil && *m.Min > *m.Max:
		return faultf("metric %s: min is %v, more than max, which is %v", name, *m.Min, *m.Max)
	}
	missing := func(key, hint string) *fault {
		return faultf("metric %s: %s has no %s", name, m.Source(), key).withHint("%s", hint)
	}
	fresh := metricVendor
	switch {
	case m.Prometheus != nil:
		q := m.Prometheus
		fresh = metricFresh
		switch {
		case q.URL == "":
			return missing("url", "write url: http://127.0.0.1:9090")
		case q.Query == "":
			return missing("query", "write query: …")
		case q.Token != "" && (q.User != "" || q.Password != ""):
			return faultf("metric %s: prometheus has a token and a user", name).withHint("remove one of them")
		case (q.User == "") != (q.Password == ""):
			return faultf("metric %s: user and password belong together", name)
		}
	case m.Datadog != nil:
		switch {
		case m.Datadog.Query == "":
			return missing("query", "write query: …")
		case m.Datadog.Site != "" && m.Datadog.URL != "":
			return faultf("metric %s: site and url are both given", name).withHint("remove one of them")
		}
	default:
		q := m.CloudWatch
		seconds := q.Period.Std() / time.Second
		switch {
		case q.Query == "":
			return missing("query", "write query: …")
		case q.Region == "":
			return missing("region", "write region: eu-central-1")
		case q.Period.Std()%time.Second != 0 || seconds%60 != 0 && !slices.Contains([]time.Duration{1, 5, 10, 30}, seconds):
			return faultf("metric %s: period is %s, but must be 1s, 5s, 10s, 30s, or whole minutes", name, q.Period)
		case q.Window < 2*q.Period:
			return faultf("metric %s: window is %s, but must be at least two periods of %s", name, q.Window, q.Period)
		}
		fresh = max(fresh, 3*q.Period)
	}
	if m.Compare != nil && !slices.ContainsFunc(m.Queries(), func(q string) bool { return release.MatchString(q) }) {
		return faultf("metric %s is compared with the stable release, but its query is the same for both", name).withHint(`write {{release}} where the release's name belongs: {release="{{release}}"}`)
	}
	if m.Stale == 0 {
		m.Stale = max(2*m.Interval, fresh)
	}
	return nil
}

var release = regexp.MustCompile(`\{\{\s*release\s*\}\}`)

// metricsShown are the metrics as they would be written.
func metricsShown(list []gapless.Metric) []any {
	var out []any
	for _, m := range list {
		shown := map[string]any{"name": m.Name, "interval": m.Interval.String(), "delay": m.Delay.String(), "failures": m.Failures, "stale": m.Stale.String()}
		switch {
		case m.Prometheus != nil:
			shown["prometheus"] = strung(map[string]string{"url": m.Prometheus.URL, "query": m.Prometheus.Query, "token": m.Prometheus.Token,
				"user": m.Prometheus.User, "password": m.Prometheus.Password})
		case m.Datadog != nil:
			shown["datadog"] = strung(map[string]string{"site": m.Datadog.Site, "url": m.Datadog.URL, "query": m.Datadog.Query,
				"window": m.Datadog.Window.String(), "api_key": m.Datadog.APIKey, "app_key": m.Datadog.AppKey})
		case m.CloudWatch != nil:
			q := strung(map[string]string{"region": m.CloudWatch.Region, "url": m.CloudWatch.URL, "query": m.CloudWatch.Query,
				"period": m.CloudWatch.Period.String(), "window": m.CloudWatch.Window.String()})
			if len(m.CloudWatch.With) > 0 {
				q["with"] = m.CloudWatch.With
			}
			shown["cloudwatch"] = q
		}
		if m.Max != nil {
			shown["max"] = *m.Max
		}
		if m.Min != nil {
			shown["min"] = *m.Min
		}
		if c := m.Compare; c != nil {
			compare := map[string]any{}
			for key, v := range map[string]float64{"at_most": c.AtMost, "at_least": c.AtLeast, "slack": c.Slack} {
				if v > 0 {
					compare[key] = v
				}
			}
			shown["compare"] = compare
		}
		out = append(out, shown)
	}
	return out
}

// strung leaves out what is not set.
func strung(all map[string]string) map[string]any {
	out := map[string]any{}
	for key, v := range all {
		if v != "" {
			out[key] = v
		}
	}
	return out
}

// metricForm describes one metric.
func metricForm(r *reader) schema {
	q, address, key := someText(), text(`^https?://`), text(envNameForm.String())
	number := schema{"type": "number"}
	positive := anyOf(schema{"type": "number", "exclusiveMinimum": 0})
	prometheus := objectOf(r.prometheusKeys(&gapless.PrometheusQuery{}), map[string]schema{
		"url": about("of the API: http://127.0.0.1:9090", address), "query": about("PromQL that selects one value", q),
		"token": about("variable with a bearer token", key), "user": about("variable with a user", key), "password": about("variable with the user's password", key)})
	prometheus["required"] = []string{"url", "query"}
	datadog := objectOf(r.datadogKeys(&gapless.DatadogQuery{}), map[string]schema{
		"site": about("such as datadoghq.eu", text(siteForm.String())), "url": about("of a proxy, instead of site", address), "query": q,
		"window": about("how far back points are asked for", durationForm()), "api_key": about("variable with the API key", key), "app_key": about("variable with the application key", key)})
	datadog["required"] = []string{"query"}
	cloudwatch := objectOf(r.cloudWatchKeys(&gapless.CloudWatchQuery{}), map[string]schema{
		"region": about("such as eu-central-1", text(regionForm.String())), "url": about("of a private endpoint", address),
		"query": about("Metrics Insights, or metric math over with", q), "period": about("of one value", durationForm()), "window": about("how far back values are asked for", durationForm()),
		"with": about("expressions by the names that query calls them by", schema{"type": "object", "propertyNames": text(expressionForm.String()), "additionalProperties": q})})
	cloudwatch["required"] = []string{"region", "query"}
	m := objectOf(r.metricKeys(&gapless.Metric{}), map[string]schema{
		"name": about("of the metric", text(nameForm.String())), "prometheus": prometheus, "datadog": datadog, "cloudwatch": cloudwatch,
		"max": about("more is a failed check", number), "min": about("less is a failed check", number),
		"compare": about("at most so many times what the stable release has", anyOf(positive, objectOf(r.compareKeys(&gapless.Comparison{}), map[string]schema{
			"at_most": positive, "at_least": positive, "slack": about("so much more or less is fine, too", positive)}))),
		"interval": about("between two checks", durationForm()), "delay": about("before the first check", durationForm()),
		"failures": about("failed checks that take the candidate back", whole(1, 100)), "stale": about("an older value is none", durationForm())})
	m["required"] = []string{"name"}
	return m
}

// checkMetrics refuses metrics that no plan would ask.
func (s *settings) checkMetrics(p *problems) {
	if len(s.app.Judge.Metrics) == 0 {
		return
	}
	at := s.where["judge"]
	judged := s.app.Strategy != gapless.StrategyRolling || s.app.Soak > 0
	hint := "soak: 2m is how long the first batch is watched"
	if len(s.plan) > 0 {
		judged = slices.ContainsFunc(s.plan, func(st placed) bool { return st.Kind == gapless.StepJudge || st.Kind == gapless.StepRamp })
		hint = "add the step judge after a weight"
	}
	if !judged {
		p.add(at, faultf("no step of this plan is judged, so that no metric is asked").withHint("%s", hint))
	}
}
