package gapless

import (
	"net/url"
	"regexp"
	"slices"
	"strings"
	"time"
)

// Metric is a value from outside that a candidate is judged by: a query, where
// it is asked, and what the answer may be. Exactly one source is set. Queries
// may hold placeholders, as {{release}}.
type Metric struct {
	Name       string           `json:"name"`
	Prometheus *PrometheusQuery `json:"prometheus,omitempty"`
	Datadog    *DatadogQuery    `json:"datadog,omitempty"`
	CloudWatch *CloudWatchQuery `json:"cloudwatch,omitempty"`

	Max     *float64    `json:"max,omitempty"`
	Min     *float64    `json:"min,omitempty"`
	Compare *Comparison `json:"compare,omitempty"` // with the value of stable

	Interval Duration `json:"interval"` // between two checks
	Delay    Duration `json:"delay"`    // after the first judged step began, before the first check
	Failures int      `json:"failures"` // failed checks that take the candidate back
	Stale    Duration `json:"stale"`    // a value that is older than this is none
}

// Comparison bounds a value by that of stable: at most AtMost × stable + Slack,
// at least AtLeast × stable − Slack. 0 means that there is no such bound.
type Comparison struct {
	AtMost  float64 `json:"at_most,omitempty"`
	AtLeast float64 `json:"at_least,omitempty"`
	Slack   float64 `json:"slack,omitempty"`
}

// PrometheusQuery is asked at GET /api/v1/query. Token, User and Password are
// names of variables of the app, never values.
type PrometheusQuery struct {
	URL      string `json:"url"`
	Query    string `json:"query"`
	Token    string `json:"token,omitempty"` // variable with a bearer token
	User     string `json:"user,omitempty"`  // variable with the user of basic authentication
	Password string `json:"password,omitempty"`
}

// DatadogQuery is asked at GET /api/v1/query. The keys are names of variables.
type DatadogQuery struct {
	Site   string   `json:"site,omitempty"` // "datadoghq.eu"; "": datadoghq.com
	URL    string   `json:"url,omitempty"`  // of a proxy, instead of Site
	Query  string   `json:"query"`
	Window Duration `json:"window"` // how far back points are asked for
	APIKey string   `json:"api_key"`
	AppKey string   `json:"app_key"`
}

// CloudWatchQuery is asked with GetMetricData. The credentials are those of the
// variables AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and AWS_SESSION_TOKEN of
// the app, else those of the machine's role.
type CloudWatchQuery struct {
	Region string            `json:"region"`
	URL    string            `json:"url,omitempty"` // of a private endpoint
	Query  string            `json:"query"`         // an expression: Metrics Insights, or metric math over With
	With   map[string]string `json:"with,omitempty"`
	Period Duration          `json:"period"` // of one value; whole seconds
	Window Duration          `json:"window"` // how far back values are asked for
}

// Queries are all texts of a metric that may hold placeholders.
func (m Metric) Queries() []string {
	switch {
	case m.Prometheus != nil:
		return []string{m.Prometheus.Query}
	case m.Datadog != nil:
		return []string{m.Datadog.Query}
	case m.CloudWatch != nil:
		out := []string{m.CloudWatch.Query}
		for _, q := range m.CloudWatch.With {
			out = append(out, q)
		}
		slices.Sort(out[1:])
		return out
	}
	return nil
}

// Source names where a metric is asked.
func (m Metric) Source() string {
	switch {
	case m.Prometheus != nil:
		return "prometheus"
	case m.Datadog != nil:
		return "datadog"
	case m.CloudWatch != nil:
		return "cloudwatch"
	}
	return ""
}

// address is where the source is, if the metric says so.
func (m Metric) address() string {
	switch {
	case m.Prometheus != nil:
		return m.Prometheus.URL
	case m.Datadog != nil:
		return m.Datadog.URL
	case m.CloudWatch != nil:
		return m.CloudWatch.URL
	}
	return ""
}

// ReadingKind is what an answer of a source is. Only one of them is a value;
// the others are no data, which is never a pass.
type ReadingKind string

const (
	ReadValue ReadingKind = "value"
	ReadEmpty ReadingKind = "empty" // the source knows of no such series
	ReadNaN   ReadingKind = "nan"   // not a number, or infinite: as 0/0 is
	ReadError ReadingKind = "error" // it could not be asked, or refused
	ReadStale ReadingKind = "stale" // the newest value is too old
)

// Reading is what a source answered to one query.
type Reading struct {
	Release string      `json:"release,omitempty"` // that was asked about
	Kind    ReadingKind `json:"kind"`
	Value   float64     `json:"value"`          // of kind value and stale
	At      time.Time   `json:"at,omitzero"`    // of the sample, by the source's clock
	Why     string      `json:"why,omitempty"`  // it is no value
	Hint    string      `json:"hint,omitempty"` // what to do about it
}

// MetricCheck is one look at a metric: the candidate, and stable beside it
// where it is compared.
type MetricCheck struct {
	Time      time.Time `json:"time"`
	Candidate Reading   `json:"candidate"`
	Stable    Reading   `json:"stable,omitzero"` // zero where it was not asked
}

// MetricState is how a metric stands, as of its last check.
type MetricState string

const (
	MetricWaiting MetricState = "waiting" // not checked yet
	MetricGood    MetricState = "good"
	MetricFailing MetricState = "failing"
	MetricNoData  MetricState = "no_data"
)

// MetricResult is what became of one metric in a rollout so far.
type MetricResult struct {
	Name     string      `json:"name"`
	State    MetricState `json:"state"`
	Why      string      `json:"why,omitempty"` // one line for people
	Last     MetricCheck `json:"last,omitzero"`
	Checks   int         `json:"checks"`
	Failures int         `json:"failures"` // of Checks
	Limit    int         `json:"limit"`    // Failures that take the candidate back
	NoData   int         `json:"no_data"`  // of Checks
	Due      time.Time   `json:"due"`      // of the next check
}

// QueryNames are what the placeholders of a query stand for.
type QueryNames struct {
	App, Release, Stable, Candidate string
}

// of returns the value of a placeholder.
func (n QueryNames) of(placeholder string) (string, bool) {
	switch placeholder {
	case "app":
		return n.App, true
	case "release":
		return n.Release, true
	case "stable":
		return n.Stable, true
	case "candidate":
		return n.Candidate, true
	}
	return "", false
}

// QueryPlaceholders are the names that a query may hold as {{name}}.
func QueryPlaceholders() []string { return []string{"app", "release", "stable", "candidate"} }

var plainName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9_.-]{0,62}$`)

// ExpandQuery replaces the placeholders of a query. Nothing is escaped, as every
// query language has its own rules for that: what is not a plain name is refused.
func ExpandQuery(query string, names QueryNames) (string, error) {
	var out strings.Builder
	for {
		before, rest, found := strings.Cut(query, "{{")
		out.WriteString(before)
		if !found {
			return out.String(), nil
		}
		inside, after, closed := strings.Cut(rest, "}}")
		if !closed {
			return "", Errorf(Invalid, "the placeholder {{%s has no end", shorten(inside, 20)).WithHint("write {{release}}")
		}
		name := strings.TrimSpace(inside)
		value, known := names.of(name)
		switch {
		case !known:
			err := Errorf(Invalid, "unknown placeholder {{%s}}", shorten(name, 40))
			if near := Nearest(name, QueryPlaceholders()); near != "" {
				return "", err.WithHint("did you mean {{%s}}?", near)
			}
			return "", err.WithHint("known placeholders: {{%s}}", strings.Join(QueryPlaceholders(), "}}, {{"))
		case value == "":
			return "", Errorf(Conflict, "there is no %s release now that {{%s}} could stand for", name, name).
				WithHint("write {{release}}: it is asked for each release that there is")
		case !plainName.MatchString(value):
			return "", Errorf(Invalid, "{{%s}} stands for %q, which is no plain name", name, shorten(value, 40)).
				WithHint("a name has letters, digits, hyphens, dots and underscores")
		}
		out.WriteString(value)
		query = after
	}
}

func shorten(s string, most int) string {
	if runes := []rune(s); len(runes) > most {
		return string(runes[:most]) + "…"
	}
	return s
}

// Validate checks what everything else relies on, whoever made the metric. The
// configuration file is checked more closely where it is read.
func (m Metric) Validate() error {
	sources := 0
	for _, given := range []bool{m.Prometheus != nil, m.Datadog != nil, m.CloudWatch != nil} {
		if given {
			sources++
		}
	}
	switch {
	case !appName.MatchString(m.Name):
		return Errorf(Invalid, "metric name %q is not 1 to 40 lower-case letters, digits and inner hyphens", m.Name)
	case sources != 1:
		return Errorf(Invalid, "metric %s has %d sources, but must have one", m.Name, sources)
	case m.Interval < Duration(time.Second):
		return Errorf(Invalid, "metric %s: interval is %s, but must be at least 1s", m.Name, m.Interval)
	case m.Failures < 1:
		return Errorf(Invalid, "metric %s: failures is %d, but must be at least 1", m.Name, m.Failures)
	case m.Stale < 0, m.Delay < 0:
		return Errorf(Invalid, "metric %s: a time is negative", m.Name)
	case m.CloudWatch != nil && (m.CloudWatch.Period < Duration(time.Second) || m.CloudWatch.Window < m.CloudWatch.Period):
		return Errorf(Invalid, "metric %s: period is %s and window %s, but they must be at least 1s and one period", m.Name, m.CloudWatch.Period, m.CloudWatch.Window)
	}
	if u, err := url.Parse(m.address()); err != nil || u.User != nil { // it is shown in errors
		return Errorf(Invalid, "metric %s: the address of its source is none, or has a user or a password in it", m.Name).
			WithHint("put them into secrets, and name these: user: PROM_USER, password: PROM_PASSWORD")
	}
	for _, q := range m.Queries() {
		if _, err := ExpandQuery(q, QueryNames{App: "a", Release: "v2", Stable: "v1", Candidate: "v2"}); err != nil {
			return err
		}
	}
	return nil
}

// mostMetrics bounds what a release is judged by from outside.
const mostMetrics = 20

// ValidateMetrics checks each, and that no name is there twice.
func ValidateMetrics(list []Metric) error {
	if len(list) > mostMetrics {
		return Errorf(Invalid, "%d metrics, but at most %d may be", len(list), mostMetrics)
	}
	seen := map[string]bool{}
	for _, m := range list {
		if err := m.Validate(); err != nil {
			return err
		}
		if seen[m.Name] {
			return Errorf(Invalid, "two metrics are named %s", m.Name)
		}
		seen[m.Name] = true
	}
	return nil
}
