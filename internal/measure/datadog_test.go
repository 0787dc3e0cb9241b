package measure

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"gapless"
)

// fakeDatadog is GET /api/v1/query and /api/v1/validate as Datadog's public
// API reference describes them, strict about everything that it reads. It was
// written from that description and never compared with the vendor.
type fakeDatadog struct {
	t      *testing.T
	status string           // "": ok
	series []map[string]any // of the answer
}

func (f *fakeDatadog) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	say := func(status int, v any) {
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(status)
		if err := json.NewEncoder(w).Encode(v); err != nil {
			f.t.Error(err)
		}
	}
	errors := func(status int, text string) { say(status, map[string]any{"errors": []string{text}}) }
	if r.Header.Get("DD-API-KEY") != "api-key" {
		errors(403, "Forbidden")
		return
	}
	if r.Method == "GET" && r.URL.Path == "/api/v1/validate" {
		say(200, map[string]any{"valid": true})
		return
	}
	q := r.URL.Query()
	var names []string
	for name := range q {
		names = append(names, name)
	}
	slices.Sort(names)
	from, err1 := strconv.ParseInt(q.Get("from"), 10, 64)
	to, err2 := strconv.ParseInt(q.Get("to"), 10, 64)
	switch {
	case r.Method != "GET" || r.URL.Path != "/api/v1/query":
		errors(404, "Not found")
		return
	case r.Header.Get("DD-APPLICATION-KEY") != "app-key":
		errors(403, "Forbidden")
		return
	case r.ContentLength > 0, fmt.Sprint(names) != "[from query to]", err1 != nil, err2 != nil, from >= to:
		errors(400, "Invalid query input")
		return
	case !strings.Contains(q.Get("query"), ":"): // <aggregator>:<metric>{<scope>}
		errors(400, "Error parsing query: unable to parse "+q.Get("query"))
		return
	case strings.Contains(q.Get("query"), "{{"):
		f.t.Errorf("a placeholder is asked: %s", q.Get("query"))
	}
	answer := map[string]any{"status": "ok", "res_type": "time_series", "resp_version": 1, "query": q.Get("query"),
		"from_date": from * 1000, "to_date": to * 1000, "series": f.series, "values": []any{}, "times": []any{}, "message": "", "group_by": []string{}}
	if f.status != "" {
		answer["status"], answer["error"] = f.status, "a rollup is too small"
	}
	say(200, answer)
}

// points makes a series of minutes that ends now; nil is a gap.
func points(values ...any) map[string]any {
	var list [][]any
	for i, v := range values {
		begin := now.Add(time.Duration(i-len(values)+1) * time.Minute)
		list = append(list, []any{float64(begin.UnixMilli()), v})
	}
	return map[string]any{"metric": "shop.errors", "display_name": "shop.errors", "scope": "release:v2", "expression": "sum:shop.errors{release:v2}",
		"interval": 60, "length": len(list), "start": 0, "end": 0, "aggr": "sum", "tag_set": []string{}, "unit": nil, "pointlist": list}
}

func datadogMetric(url string) gapless.Metric {
	return gapless.Metric{Name: "m", Stale: gapless.Duration(5 * time.Minute),
		Datadog: &gapless.DatadogQuery{URL: url, Query: "sum:shop.errors{release:{{release}}}", Window: gapless.Duration(10 * time.Minute), APIKey: "DD_API_KEY", AppKey: "DD_APP_KEY"}}
}

func TestDatadogAnswers(t *testing.T) {
	keys := map[string]string{"DD_API_KEY": "api-key", "DD_APP_KEY": "app-key"}
	for _, c := range []struct {
		name   string
		fake   fakeDatadog
		env    map[string]string
		query  string
		want   gapless.ReadingKind
		value  float64
		says   string
		serves http.HandlerFunc
	}{
		{name: "the newest interval that is over", fake: fakeDatadog{series: []map[string]any{points(1, 2, 3, 0.5)}}, want: gapless.ReadValue, value: 3},
		{name: "a gap at the end", fake: fakeDatadog{series: []map[string]any{points(1, 2, nil, nil)}}, want: gapless.ReadValue, value: 2},
		{name: "zero", fake: fakeDatadog{series: []map[string]any{points(4, 0, 9)}}, want: gapless.ReadValue, value: 0},
		{name: "no series", fake: fakeDatadog{series: []map[string]any{}}, want: gapless.ReadEmpty, says: "no series"},
		{name: "only gaps", fake: fakeDatadog{series: []map[string]any{points(nil, nil, nil)}}, want: gapless.ReadEmpty},
		{name: "only the interval that still fills", fake: fakeDatadog{series: []map[string]any{points(5)}}, want: gapless.ReadEmpty},
		{name: "an old value", fake: fakeDatadog{series: []map[string]any{points(5, nil, nil, nil, nil, nil, nil, nil)}}, want: gapless.ReadStale, value: 5, says: "6m"},
		{name: "two series", fake: fakeDatadog{series: []map[string]any{points(1, 2), points(1, 2)}}, want: gapless.ReadError, says: "2 series"},
		{name: "a query that cannot be parsed", query: "nonsense {{release}}", want: gapless.ReadError, says: "Error parsing query"},
		{name: "an error in the answer", fake: fakeDatadog{status: "error"}, want: gapless.ReadError, says: "a rollup is too small"},
		{name: "a wrong key", env: map[string]string{"DD_API_KEY": "other-key", "DD_APP_KEY": "app-key"}, want: gapless.ReadError, says: "403: Forbidden"},
		{name: "a wrong application key", env: map[string]string{"DD_API_KEY": "api-key", "DD_APP_KEY": "other-key"}, want: gapless.ReadError, says: "403: Forbidden"},
		{name: "no key", env: map[string]string{"DD_API_KEY": "api-key"}, want: gapless.ReadError, says: "variable DD_APP_KEY"},
		{name: "too often", want: gapless.ReadError, says: "429", serves: func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(429) }},
		{name: "a page", want: gapless.ReadError, says: "a page", serves: func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("<html>")) }},
		{name: "a point without a value", want: gapless.ReadError, says: "a point that is none",
			serves: func(w http.ResponseWriter, _ *http.Request) {
				_, _ = w.Write([]byte(`{"status":"ok","series":[{"interval":60,"pointlist":[[1]]}]}`))
			}},
	} {
		t.Run(c.name, func(t *testing.T) {
			c.fake.t = t
			var h http.Handler = &c.fake
			if c.serves != nil {
				h = c.serves
			}
			srv := httptest.NewServer(h)
			defer srv.Close()
			m := datadogMetric(srv.URL)
			if c.query != "" {
				m.Datadog.Query = c.query
			}
			env := keys
			if c.env != nil {
				env = c.env
			}
			r := Read(t.Context(), m, env, gapless.QueryNames{Release: "v2"}, now)
			if r.Kind != c.want || r.Value != c.value || !strings.Contains(r.Why, c.says) {
				t.Errorf("%+v, want %s %v (%s)", r, c.want, c.value, c.says)
			}
			if strings.Contains(r.Why+r.Hint, "other-key") {
				t.Errorf("a key is shown: %+v", r)
			}
		})
	}
}

func TestDatadogPing(t *testing.T) {
	srv := httptest.NewServer(&fakeDatadog{t: t})
	defer srv.Close()
	for key, fine := range map[string]bool{"api-key": true, "wrong": false} {
		d, err := newDatadog(*datadogMetric(srv.URL).Datadog, map[string]string{"DD_API_KEY": key, "DD_APP_KEY": "app-key"})
		if err != nil {
			t.Fatal(err)
		}
		if err := d.Ping(t.Context()); (err == nil) != fine {
			t.Errorf("%s: %v", key, err)
		}
	}
	d, err := newDatadog(gapless.DatadogQuery{Site: "datadoghq.eu", APIKey: "K", AppKey: "K"}, map[string]string{"K": "k"})
	if err != nil || d.url != "https://api.datadoghq.eu" {
		t.Errorf("%v, %v", d, err)
	}
}
