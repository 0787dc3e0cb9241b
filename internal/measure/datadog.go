package measure

import (
	"context"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"gapless"
)

// datadog asks version 1 of Datadog's API for the points of a query.
type datadog struct {
	url    string
	window time.Duration
	header http.Header
}

func newDatadog(q gapless.DatadogQuery, env map[string]string) (*datadog, error) {
	key, err := variable(env, "API key of Datadog", q.APIKey)
	if err != nil {
		return nil, err
	}
	app, err := variable(env, "application key of Datadog", q.AppKey)
	if err != nil {
		return nil, err
	}
	d := &datadog{url: q.URL, window: q.Window.Std(), header: http.Header{}}
	if d.url == "" {
		site := q.Site
		if site == "" {
			site = "datadoghq.com"
		}
		d.url = "https://api." + site
	}
	d.header.Set("DD-API-KEY", key)
	d.header.Set("DD-APPLICATION-KEY", app)
	return d, nil
}

const datadogKeys = "are the API key and the application key those of this site, and may they read metrics (timeseries_query)?"

// Ping implements Source: it lets Datadog look at the API key.
func (d *datadog) Ping(ctx context.Context) error {
	a, err := get(ctx, d.url, "/api/v1/validate", nil, d.header)
	if err != nil {
		return err
	}
	var said struct {
		Valid  bool     `json:"valid"`
		Errors []string `json:"errors"`
	}
	understood := a.decode(d.url, &said)
	if err := a.refused(d.url, strings.Join(said.Errors, ", "), datadogKeys); err != nil {
		return err
	}
	if understood == nil && !said.Valid {
		return gapless.Errorf(gapless.NotAllowed, "%s does not take the API key", d.url).WithHint(datadogKeys)
	}
	return understood
}

// Query implements Source. Points are the beginnings of intervals. The one
// that is not over yet still fills, so that a sum in it is too small: it is
// left out, and a sample is of the end of its interval.
func (d *datadog) Query(ctx context.Context, query string, now time.Time, _ time.Duration) (Sample, bool, error) {
	params := url.Values{
		"from":  {strconv.FormatInt(now.Add(-d.window).Unix(), 10)},
		"to":    {strconv.FormatInt(now.Unix(), 10)},
		"query": {query},
	}
	a, err := get(ctx, d.url, "/api/v1/query", params, d.header)
	if err != nil {
		return Sample{}, false, err
	}
	var said struct {
		Status string   `json:"status"`
		Error  string   `json:"error"`
		Errors []string `json:"errors"`
		Series []struct {
			Interval  int64        `json:"interval"` // seconds
			Pointlist [][]*float64 `json:"pointlist"`
		} `json:"series"`
	}
	understood := a.decode(d.url, &said)
	if err := a.refused(d.url, strings.Join(said.Errors, ", "), datadogKeys); err != nil {
		return Sample{}, false, err
	}
	switch {
	case understood != nil:
		return Sample{}, false, understood
	case said.Status == "error":
		return Sample{}, false, gapless.Errorf(gapless.Unavailable, "%s: %s", d.url, cut(said.Error, 200)).WithHint("try the query in Datadog's metrics explorer")
	case said.Status != "ok":
		return Sample{}, false, gapless.Errorf(gapless.Unavailable, "%s answers without a status", d.url).WithHint("is it the address of the API?")
	case len(said.Series) == 0:
		return Sample{}, false, nil
	case len(said.Series) > 1:
		return Sample{}, false, tooMany(len(said.Series), "leave out by {…}")
	}
	series := said.Series[0]
	interval := time.Duration(series.Interval) * time.Second
	for i := len(series.Pointlist) - 1; i >= 0; i-- {
		p := series.Pointlist[i]
		if len(p) != 2 || p[0] == nil {
			return Sample{}, false, gapless.Errorf(gapless.Unavailable, "%s answers a point that is none", d.url)
		}
		end := fromSeconds(*p[0] / 1000).Add(interval)
		if p[1] != nil && !end.After(now) {
			return Sample{Value: *p[1], At: end}, true, nil
		}
	}
	return Sample{}, false, nil
}
