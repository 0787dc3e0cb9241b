package measure

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"gapless"
)

// maxAnswer bounds what is read of an answer, in bytes: one value is small.
const maxAnswer = 1 << 20

// errTooLarge says that an answer was not read to its end.
var errTooLarge = errors.New("the answer is larger than 1 MiB")

// client asks over HTTP. It follows no redirect, which would take keys
// elsewhere, and keeps no connection: a query comes every half a minute.
var client = &http.Client{
	Transport: &http.Transport{
		Proxy:                  http.ProxyFromEnvironment,
		DialContext:            (&net.Dialer{Timeout: 5 * time.Second}).DialContext,
		TLSHandshakeTimeout:    5 * time.Second,
		DisableKeepAlives:      true,
		MaxResponseHeaderBytes: 64 << 10,
		ForceAttemptHTTP2:      true,
	},
	CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
}

// answer is what a server said.
type answer struct {
	status  int
	media   string
	body    []byte
	to      string // of a redirect
	retryIn string
}

// get asks for one document. Errors say where, without the query.
func get(ctx context.Context, base, path string, query url.Values, header http.Header) (answer, error) {
	target := strings.TrimSuffix(base, "/") + path
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, target+"?"+query.Encode(), nil)
	if err != nil {
		return answer{}, gapless.Errorf(gapless.Invalid, "%s is no address that can be asked", base)
	}
	req.Header = header.Clone()
	if req.Header == nil {
		req.Header = http.Header{}
	}
	req.Header.Set("Accept", "application/json")
	req.Header.Set("User-Agent", "gapless")
	res, err := client.Do(req)
	if err != nil {
		return answer{}, unreached(ctx, base, err)
	}
	defer func() { _ = res.Body.Close() }()
	a := answer{status: res.StatusCode, media: res.Header.Get("Content-Type"), to: res.Header.Get("Location"), retryIn: res.Header.Get("Retry-After")}
	a.body, err = io.ReadAll(io.LimitReader(res.Body, maxAnswer+1))
	switch {
	case err != nil:
		return a, unreached(ctx, base, err)
	case len(a.body) > maxAnswer:
		return a, gapless.Errorf(gapless.TooLarge, "%s: %w", base, errTooLarge).
			WithHint("aggregate in the query, so that one value is left: sum(…)")
	}
	return a, nil
}

// unreached says why there is no answer, without the query, which is long.
func unreached(ctx context.Context, base string, err error) error {
	if inner := (*url.Error)(nil); errors.As(err, &inner) {
		err = inner.Err
	}
	if ctx.Err() != nil || errors.Is(err, context.DeadlineExceeded) {
		return gapless.Errorf(gapless.TimedOut, "%s did not answer in time", base).
			WithHint("at most %s are waited for; is the query too wide?", gapless.Duration(Timeout))
	}
	return gapless.Errorf(gapless.Unavailable, "%s cannot be reached: %w", base, err).
		WithHint("is the address right, as seen from this machine?")
}

// refused is the error that a status means, nil where it is 200.
func (a answer) refused(base, said, keys string) error {
	if said == "" {
		said = http.StatusText(a.status)
	}
	text := fmt.Sprintf("%s answers %d: %s", base, a.status, cut(said, 200))
	switch {
	case a.status == http.StatusOK:
		return nil
	case a.status >= 300 && a.status < 400:
		return gapless.Errorf(gapless.Unavailable, "%s sends elsewhere, to %s", base, cut(a.to, 100)).WithHint("write the address that answers itself; redirects are not followed")
	case a.status == http.StatusUnauthorized, a.status == http.StatusForbidden:
		return gapless.Errorf(gapless.NotAllowed, "%s", text).WithHint("%s", keys)
	case a.status == http.StatusTooManyRequests:
		return gapless.Errorf(gapless.TooMany, "%s", text).WithHint("ask less often: interval: 2m")
	}
	return gapless.Errorf(gapless.Unavailable, "%s", text)
}

// decode reads one JSON value and nothing behind it.
func (a answer) decode(base string, v any) error {
	dec := json.NewDecoder(bytes.NewReader(a.body))
	err := dec.Decode(v)
	if err == nil {
		if _, end := dec.Token(); end != io.EOF {
			err = errors.New("something follows the JSON value")
		}
	}
	if err == nil {
		return nil
	}
	hint := "is it the address of the API?"
	if strings.Contains(a.media, "html") || bytes.HasPrefix(bytes.TrimSpace(a.body), []byte("<")) {
		return gapless.Errorf(gapless.Unavailable, "%s answers with a page, not with JSON: %s", base, cut(string(a.body), 80)).
			WithHint("%s a login page may stand before it", hint)
	}
	return gapless.Errorf(gapless.Unavailable, "%s answers what is not understood: %w", base, err).WithHint("%s", hint)
}
