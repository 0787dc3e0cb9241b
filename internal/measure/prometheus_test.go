package measure

import (
	"context"
	"encoding/base64"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"gapless"
)

var now = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

// answering serves one text for every query but those after timestamps.
func answering(t *testing.T, status int, media, body string) *httptest.Server {
	t.Helper()
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", media)
		if strings.HasPrefix(r.FormValue("query"), "timestamp(") && status == 200 {
			_, _ = io.WriteString(w, vector(fmt.Sprint(now.Unix())))
			return
		}
		w.WriteHeader(status)
		_, _ = io.WriteString(w, body)
	}))
	t.Cleanup(srv.Close)
	return srv
}

func vector(values ...string) string {
	var series []string
	for i, v := range values {
		series = append(series, fmt.Sprintf(`{"metric":{"i":"%d"},"value":[%d,%q]}`, i, now.Unix(), v))
	}
	return `{"status":"success","data":{"resultType":"vector","result":[` + strings.Join(series, ",") + `]}}`
}

func promMetric(url string) gapless.Metric {
	return gapless.Metric{Name: "m", Stale: gapless.Duration(time.Minute),
		Prometheus: &gapless.PrometheusQuery{URL: url, Query: `x{release="{{release}}"}`}}
}

func readProm(t *testing.T, m gapless.Metric) gapless.Reading {
	t.Helper()
	return Read(t.Context(), m, nil, gapless.QueryNames{App: "shop", Release: "v2"}, now)
}

// Every answer that an HTTP server may give is one of five things.
func TestPrometheusAnswers(t *testing.T) {
	const json = "application/json"
	for _, c := range []struct {
		name        string
		status      int
		media, body string
		want        gapless.ReadingKind
		value       float64
		says, hint  string
	}{
		{"a value", 200, json, vector("0.25"), gapless.ReadValue, 0.25, "", ""},
		{"a scalar", 200, json, fmt.Sprintf(`{"status":"success","data":{"resultType":"scalar","result":[%d.5,"7"]}}`, now.Unix()), gapless.ReadValue, 7, "", ""},
		{"zero", 200, json, vector("0"), gapless.ReadValue, 0, "", ""},
		{"nothing", 200, json, vector(), gapless.ReadEmpty, 0, "no series", "labels"},
		{"0/0", 200, json, vector("NaN"), gapless.ReadNaN, 0, "not a number", "0/0"},
		{"1/0", 200, json, vector("+Inf"), gapless.ReadNaN, 0, "infinite", ""},
		{"-1/0", 200, json, vector("-Inf"), gapless.ReadNaN, 0, "infinite", ""},
		{"an old value", 200, json, strings.Replace(vector("1"), fmt.Sprint(now.Unix()), fmt.Sprint(now.Unix()-90), 1), gapless.ReadStale, 1, "1m30s old", "stale"},
		{"two series", 200, json, vector("1", "2"), gapless.ReadError, 0, "2 series", "sum("},
		{"a range", 200, json, `{"status":"success","data":{"resultType":"matrix","result":[]}}`, gapless.ReadError, 0, "range", "rate("},
		{"a string", 200, json, `{"status":"success","data":{"resultType":"string","result":[1,"x"]}}`, gapless.ReadError, 0, "a string", ""},
		{"a parse error", 400, json, `{"status":"error","errorType":"bad_data","error":"1:3: parse error"}`, gapless.ReadError, 0, "parse error", "not understood"},
		{"a query that takes too long", 503, json, `{"status":"error","errorType":"timeout","error":"query timed out"}`, gapless.ReadError, 0, "timed out", "rule"},
		{"a warning", 200, json, strings.Replace(vector("1"), `"success"`, `"success","warnings":["a store is away"]`, 1), gapless.ReadError, 0, "a store is away", ""},
		{"no key", 401, "text/plain", "Unauthorized", gapless.ReadError, 0, "401", "token"},
		{"a wrong key, in JSON", 403, json, `{"status":"error","errorType":"forbidden","error":"no"}`, gapless.ReadError, 0, "403", "token"},
		{"too often", 429, "text/plain", "", gapless.ReadError, 0, "429", "interval"},
		{"a broken gateway", 502, "text/html", "<html>Bad Gateway</html>", gapless.ReadError, 0, "502", ""},
		{"a login page", 200, "text/html", "<!DOCTYPE html><title>Log in</title>", gapless.ReadError, 0, "a page, not with JSON", "login"},
		{"half of the JSON", 200, json, `{"status":"success","data":{"resultTy`, gapless.ReadError, 0, "not understood", ""},
		{"two answers", 200, json, vector("1") + vector("2"), gapless.ReadError, 0, "something follows", ""},
		{"another API", 200, json, `{"hello":"world"}`, gapless.ReadError, 0, "without a status", "API"},
		{"an empty body", 200, json, "", gapless.ReadError, 0, "not understood", ""},
		{"a value that is none", 200, json, vector("many"), gapless.ReadError, 0, "a sample that is none", ""},
		{"a sample without a value", 200, json, `{"status":"success","data":{"resultType":"vector","result":[{"metric":{},"value":[1]}]}}`, gapless.ReadError, 0, "a sample that is none", ""},
		{"a histogram", 200, json, `{"status":"success","data":{"resultType":"vector","result":[{"metric":{},"histogram":[1,{}]}]}}`, gapless.ReadError, 0, "a sample that is none", ""},
		{"a redirect", 302, "text/html", "", gapless.ReadError, 0, "elsewhere", "redirects"},
		{"a sample of no time", 200, json, strings.Replace(vector("1"), fmt.Sprint(now.Unix()), "1e300", 1), gapless.ReadError, 0, "of no time", ""},
		{"a page that says to a terminal", 500, "text/plain", "\x1b[2Jboom", gapless.ReadError, 0, "500", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := readProm(t, promMetric(answering(t, c.status, c.media, c.body).URL))
			if r.Kind != c.want || r.Value != c.value || !strings.Contains(r.Why, c.says) || !strings.Contains(r.Hint, c.hint) {
				t.Errorf("%+v, want %s %v (%s; hint: %s)", r, c.want, c.value, c.says, c.hint)
			}
			if r.Release != "v2" || r.Kind != gapless.ReadValue && r.Why == "" || strings.ContainsRune(r.Why, 0x1b) {
				t.Errorf("%+v", r)
			}
		})
	}
}

// What a server is asked, to the letter.
func TestPrometheusRequest(t *testing.T) {
	var queries []string
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		q := r.URL.Query()
		if r.Method != "GET" || r.URL.Path != "/prom/api/v1/query" || r.Header.Get("Accept") != "application/json" {
			t.Errorf("%s %s", r.Method, r.URL)
		}
		if q.Get("time") != "1767323045.000" || q.Get("lookback_delta") != "60" || !strings.HasSuffix(q.Get("timeout"), "s") {
			t.Errorf("asked with %v", q)
		}
		queries = append(queries, q.Get("query"))
		_, _ = io.WriteString(w, vector("1"))
	}))
	defer srv.Close()
	if r := readProm(t, promMetric(srv.URL+"/prom/")); r.Kind != gapless.ReadStale { // timestamp(…) answers 1 second after 1970
		t.Errorf("%+v", r)
	}
	if want := []string{`x{release="v2"}`, "timestamp(\n" + `x{release="v2"}` + "\n)"}; fmt.Sprint(queries) != fmt.Sprint(want) {
		t.Errorf("asked %q, want %q", queries, want)
	}
}

// A server that looks back no further than it is told finds nothing that is too
// old. There is something, though.
func TestPrometheusLooksBack(t *testing.T) {
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Query().Get("lookback_delta") != "" {
			_, _ = io.WriteString(w, vector())
			return
		}
		_, _ = io.WriteString(w, vector("3"))
	}))
	defer srv.Close()
	if r := readProm(t, promMetric(srv.URL)); r.Kind != gapless.ReadStale || r.Value != 3 {
		t.Errorf("%+v", r)
	}
}

// Keys come from variables, go into one header, and are in no error.
func TestPrometheusKeys(t *testing.T) {
	env := map[string]string{"TOKEN": "top-sekret", "WHO": "ann", "PASS": "pass:word", "LINE": "top\nsekret"}
	got := ""
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		got = r.Header.Get("Authorization")
		w.WriteHeader(401)
		_, _ = io.WriteString(w, "no")
	}))
	defer srv.Close()
	for _, c := range []struct {
		q          gapless.PrometheusQuery
		want, says string
	}{
		{gapless.PrometheusQuery{}, "", "401"},
		{gapless.PrometheusQuery{Token: "TOKEN"}, "Bearer top-sekret", "401"},
		{gapless.PrometheusQuery{User: "WHO", Password: "PASS"}, "Basic " + base64.StdEncoding.EncodeToString([]byte("ann:pass:word")), "401"},
		{gapless.PrometheusQuery{Token: "ELSE"}, "", "variable ELSE"},
		{gapless.PrometheusQuery{Token: "LINE"}, "", "control character"},
	} {
		got = ""
		m := promMetric(srv.URL)
		c.q.URL, c.q.Query = m.Prometheus.URL, m.Prometheus.Query
		m.Prometheus = &c.q
		r := Read(t.Context(), m, env, gapless.QueryNames{Release: "v2"}, now)
		if got != c.want || r.Kind != gapless.ReadError || !strings.Contains(r.Why, c.says) {
			t.Errorf("%+v: sent %q, %+v", c.q, got, r)
		}
		for _, v := range []string{"sekret", "pass:word"} {
			if strings.Contains(r.Why+r.Hint, v) {
				t.Errorf("a key is shown: %+v", r)
			}
		}
	}
}

// A redirect must not take a key elsewhere.
func TestKeysStayWhereTheyBelong(t *testing.T) {
	other := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		t.Errorf("asked elsewhere, with %q", r.Header.Get("Authorization"))
	}))
	defer other.Close()
	srv := httptest.NewServer(http.RedirectHandler(other.URL, http.StatusTemporaryRedirect))
	defer srv.Close()
	m := promMetric(srv.URL)
	m.Prometheus.Token = "T"
	if r := Read(t.Context(), m, map[string]string{"T": "secret"}, gapless.QueryNames{Release: "v2"}, now); r.Kind != gapless.ReadError {
		t.Errorf("%+v", r)
	}
}

// A server that is slow, endless or huge is given up.
func TestServersThatTakeTooMuch(t *testing.T) {
	stop := make(chan struct{})
	hang := func(w http.ResponseWriter, r *http.Request) {
		select {
		case <-r.Context().Done():
		case <-stop:
		}
	}
	drip := func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.WriteString(w, `{"status":`)
		w.(http.Flusher).Flush()
		hang(w, r)
	}
	huge := func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, `{"status":"success","data":{"resultType":"vector","result":[`)
		part := strings.Repeat(" ", 64<<10)
		for range 100 {
			if _, err := io.WriteString(w, part); err != nil {
				return
			}
		}
	}
	defer close(stop)
	for name, c := range map[string]struct {
		serve http.HandlerFunc
		says  string
	}{
		"never answers": {hang, "did not answer in time"},
		"never ends":    {drip, "did not answer in time"},
		"is huge":       {huge, "larger than 1 MiB"},
		"hangs up":      {func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }, "cannot be reached"},
	} {
		t.Run(name, func(t *testing.T) {
			srv := httptest.NewServer(c.serve)
			defer srv.CloseClientConnections()
			limit := Timeout
			if strings.Contains(c.says, "time") {
				limit = 300 * time.Millisecond
			}
			ctx, cancel := context.WithTimeout(t.Context(), limit)
			defer cancel()
			r := Read(ctx, promMetric(srv.URL), nil, gapless.QueryNames{Release: "v2"}, now)
			if r.Kind != gapless.ReadError || !strings.Contains(r.Why, c.says) {
				t.Errorf("%+v", r)
			}
		})
	}
	if r := readProm(t, promMetric("http://127.0.0.1:1")); r.Kind != gapless.ReadError || !strings.Contains(r.Why, "cannot be reached") || r.Hint == "" {
		t.Errorf("nobody listens: %+v", r)
	}
}

func TestPrometheusPing(t *testing.T) {
	p, err := newPrometheus(gapless.PrometheusQuery{URL: answering(t, 200, "application/json", vector("1")).URL}, nil)
	if err != nil || p.Ping(t.Context()) != nil {
		t.Errorf("%v, %v", err, p.Ping(t.Context()))
	}
	p.url = answering(t, 401, "text/plain", "").URL
	if p.Ping(t.Context()) == nil {
		t.Error("a server that refuses answers a ping")
	}
}

// A query that cannot be asked is an error, and nobody is asked.
func TestQueriesThatAreNone(t *testing.T) {
	m := promMetric("http://127.0.0.1:1")
	for query, says := range map[string]string{`x{r="{{relase}}"}`: "unknown placeholder", `x{r="{{release"}`: "no end", `{{candidate}}`: "no candidate release"} {
		m.Prometheus.Query = query
		if r := readProm(t, m); r.Kind != gapless.ReadError || !strings.Contains(r.Why, says) {
			t.Errorf("%s: %+v", query, r)
		}
	}
	m = promMetric("http://127.0.0.1:1")
	if r := Read(t.Context(), m, nil, gapless.QueryNames{Release: `v2"} or vector(0) #`}, now); !strings.Contains(r.Why, "no plain name") {
		t.Errorf("a name that is a part of a query: %+v", r)
	}
	if _, err := Open(gapless.Metric{Name: "x"}, nil); err == nil {
		t.Error("a metric without a source is opened")
	}
}
