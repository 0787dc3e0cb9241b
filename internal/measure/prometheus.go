package measure

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"gapless"
)

// prometheus asks the HTTP API of Prometheus and of what speaks like it.
type prometheus struct {
	url    string
	header http.Header
}

func newPrometheus(q gapless.PrometheusQuery, env map[string]string) (*prometheus, error) {
	p := &prometheus{url: q.URL, header: http.Header{}}
	switch {
	case q.Token != "":
		token, err := variable(env, "token of Prometheus", q.Token)
		if err != nil {
			return nil, err
		}
		p.header.Set("Authorization", "Bearer "+token)
	case q.User != "":
		user, err := variable(env, "user of Prometheus", q.User)
		if err != nil {
			return nil, err
		}
		password, err := variable(env, "password of Prometheus", q.Password)
		if err != nil {
			return nil, err
		}
		p.header.Set("Authorization", "Basic "+base64.StdEncoding.EncodeToString([]byte(user+":"+password)))
	}
	return p, nil
}

// Ping implements Source.
func (p *prometheus) Ping(ctx context.Context) error {
	_, _, err := p.instant(ctx, "vector(1)", time.Now(), 0)
	return err
}

// Query implements Source. An instant query finds samples of up to five minutes
// ago and says nothing of their age. Two things find out: servers since 2.43
// look back no further than they are told, and timestamp() knows the age of a
// plain selector everywhere. What is behind rate() is in the range it names.
func (p *prometheus) Query(ctx context.Context, query string, now time.Time, limit time.Duration) (Sample, bool, error) {
	s, ok, err := p.instant(ctx, query, now, limit)
	if err != nil || limit <= 0 {
		return s, ok, err
	}
	if !ok {
		if s, ok, err = p.instant(ctx, query, now, 0); err == nil && ok {
			return Sample{Value: s.Value}, true, errStale
		}
		return s, ok, err
	}
	// Not every expression may stand there; then the age remains unknown.
	if age, known, err := p.instant(ctx, "timestamp(\n"+query+"\n)", now, limit); err == nil && known {
		if at := fromSeconds(age.Value); !at.IsZero() && at.Before(s.At) {
			s.At = at
		}
	} else if ctx.Err() != nil {
		return s, false, unreached(ctx, p.url, ctx.Err())
	}
	return s, ok, nil
}

// instant asks for the one value of a query.
func (p *prometheus) instant(ctx context.Context, query string, now time.Time, lookBack time.Duration) (Sample, bool, error) {
	params := url.Values{"query": {query}, "time": {strconv.FormatFloat(float64(now.UnixMilli())/1000, 'f', 3, 64)}}
	if deadline, ok := ctx.Deadline(); ok {
		if left := time.Until(deadline); left > time.Second {
			params.Set("timeout", strconv.Itoa(int(left/time.Second))+"s")
		}
	}
	if lookBack > 0 {
		params.Set("lookback_delta", strconv.FormatFloat(lookBack.Seconds(), 'f', -1, 64))
	}
	a, err := get(ctx, p.url, "/api/v1/query", params, p.header)
	if err != nil {
		return Sample{}, false, err
	}
	var said struct {
		Status    string   `json:"status"`
		ErrorType string   `json:"errorType"`
		Error     string   `json:"error"`
		Warnings  []string `json:"warnings"`
		Data      struct {
			ResultType string          `json:"resultType"`
			Result     json.RawMessage `json:"result"`
		} `json:"data"`
	}
	understood := a.decode(p.url, &said)
	if understood == nil && said.Status == "error" && a.status != http.StatusUnauthorized && a.status != http.StatusForbidden {
		return Sample{}, false, promError(p.url, said.ErrorType, said.Error)
	}
	if err := a.refused(p.url, said.Error, "the token, or user and password, are not taken"); err != nil {
		return Sample{}, false, err
	}
	switch {
	case understood != nil:
		return Sample{}, false, understood
	case said.Status != "success":
		return Sample{}, false, gapless.Errorf(gapless.Unavailable, "%s answers without a status", p.url).WithHint("is it the address of the API?")
	case len(said.Warnings) > 0:
		// A part of the data may be missing: what is left is no evidence.
		return Sample{}, false, gapless.Errorf(gapless.Unavailable, "%s warns: %s", p.url, cut(said.Warnings[0], 200))
	}
	switch said.Data.ResultType {
	case "scalar":
		return sampleOf(p.url, said.Data.Result)
	case "vector":
		var series []struct {
			Metric map[string]string `json:"metric"`
			Value  json.RawMessage   `json:"value"`
		}
		if json.Unmarshal(said.Data.Result, &series) != nil {
			return Sample{}, false, gapless.Errorf(gapless.Unavailable, "%s answers a vector that is none", p.url)
		}
		switch len(series) {
		case 0:
			return Sample{}, false, nil
		case 1:
			return sampleOf(p.url, series[0].Value)
		}
		return Sample{}, false, tooMany(len(series), "sum(…), max(…) or avg(…)")
	case "matrix":
		return Sample{}, false, gapless.Errorf(gapless.Invalid, "the query selects a range, not one value").WithHint("put a function around it: rate(…[1m])")
	}
	return Sample{}, false, gapless.Errorf(gapless.Invalid, "the query answers a %s, not one number", cut(said.Data.ResultType, 20))
}

// promError is what the API says of a query that it does not answer.
func promError(base, kind, text string) error {
	err := gapless.Errorf(gapless.Unavailable, "%s: %s: %s", base, cut(kind, 40), cut(text, 200))
	switch kind {
	case "bad_data":
		return err.WithHint("the query is not understood; try it in Prometheus itself")
	case "timeout", "canceled":
		return err.WithHint("the query takes too long; record it by a rule")
	case "execution":
		return err.WithHint("try the query in Prometheus itself")
	}
	return err
}

// sampleOf reads [seconds, "value"].
func sampleOf(base string, data json.RawMessage) (Sample, bool, error) {
	var pair []json.RawMessage
	var at float64
	var text string
	err := json.Unmarshal(data, &pair)
	if err == nil && len(pair) != 2 {
		err = errors.New("it is no pair of time and value")
	}
	if err == nil {
		err = errors.Join(json.Unmarshal(pair[0], &at), json.Unmarshal(pair[1], &text))
	}
	var v float64
	if err == nil {
		v, err = strconv.ParseFloat(text, 64) // reads NaN, +Inf and -Inf, too
	}
	if err != nil {
		return Sample{}, false, gapless.Errorf(gapless.Unavailable, "%s answers a sample that is none: %s", base, cut(string(data), 80))
	}
	return Sample{Value: v, At: fromSeconds(at)}, true, nil
}

// fromSeconds is the zero time for what is no time that there is.
func fromSeconds(s float64) time.Time {
	if !(s >= 0 && s < 1<<37) {
		return time.Time{}
	}
	return time.UnixMilli(int64(s * 1000)).UTC()
}

// tooMany refuses an answer of several series: which one would be meant?
func tooMany(n int, how string) error {
	return gapless.Errorf(gapless.Invalid, "the query selects %d series, where one value is needed", n).WithHint("aggregate in the query: %s", how)
}
