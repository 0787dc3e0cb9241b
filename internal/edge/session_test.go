package edge

import (
	"bufio"
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"gapless"
)

var secrets = gapless.SessionKeys{bytes.Repeat([]byte{1}, 32), bytes.Repeat([]byte{2}, 32)}

func TestMACIsHMAC(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	for n := range maxSigned + 1 {
		key, message := make([]byte, 1+rng.IntN(150)), make([]byte, n)
		for _, b := range [][]byte{key, message} {
			for i := range b {
				b[i] = byte(rng.Uint32())
			}
		}
		want := hmac.New(sha256.New, key)
		want.Write(message)
		k := newMACKey(key)
		if got := k.sign(message); !bytes.Equal(got[:], want.Sum(nil)) {
			t.Fatalf("message of %d bytes: another MAC", n)
		}
	}
}

func TestTokens(t *testing.T) {
	shares := []*share{{release: "v1"}, {release: "v2"}}
	ours, older, foreign := deriveKey(secrets[0], "shop"), deriveKey(secrets[1], "shop"), deriveKey(secrets[0], "other")
	keys := []macKey{ours, older}
	const now, ttl = 1_800_000_000, 3600
	good := token{issued: now - 10, coin: 7, id: 1 << 63, weight: 0.05, bad: true, release: "v2"}
	write := func(t token, k macKey) string { return string(appendToken(nil, &t, &k)) }
	for _, k := range keys { // rotation: what the key before signed is still good
		got, to := readToken([]byte(write(good, k)), keys, now, ttl, shares)
		if to != shares[1] || got != good {
			t.Fatalf("%+v of %v, want %+v", got, to, good)
		}
	}
	change := func(f func(*token)) string { c := good; f(&c); return write(c, ours) }
	text := write(good, ours)
	refused := map[string]string{
		"empty": "", "another app's": write(good, foreign), "a key that is gone": write(good, deriveKey([]byte("x"), "shop")),
		"expired": change(func(c *token) { c.issued = now - ttl }), "of the future": change(func(c *token) { c.issued = now + clockSlack + 1 }),
		"a release that is gone": change(func(c *token) { c.release = "v3" }), "no release": change(func(c *token) { c.release = "" }),
		"a weight that is none": change(func(c *token) { c.weight = math.NaN() }), "too much weight": change(func(c *token) { c.weight = 1.5 }),
		"padding": text + "=", "more": text + "AAAA", "less": text[:len(text)-1], "long": strings.Repeat("A", 10_000), "white space": " " + text,
	}
	for what, v := range refused {
		if _, to := readToken([]byte(v), keys, now, ttl, shares); to != nil {
			t.Errorf("%s: taken", what)
		}
	}
	for i := range text { // every character counts
		b := []byte(text)
		for _, c := range []byte("Aa0-_.!") {
			if c == text[i] {
				continue
			}
			b[i] = c
			if _, to := readToken(b, keys, now, ttl, shares); to != nil {
				t.Fatalf("tampered at %d (%q → %q): taken", i, text[i], c)
			}
		}
	}
	if n := allocsPerRun(100, func() { readToken([]byte(text), keys, now, ttl, shares) }); n > 1 { // the conversion
		t.Errorf("%v allocations", n)
	}
}

func FuzzTokens(f *testing.F) {
	shares, key := []*share{{release: "v1"}}, deriveKey(secrets[0], "shop")
	f.Add(string(appendToken(nil, &token{issued: 100, release: "v1"}, &key)))
	f.Add("AAAA")
	f.Fuzz(func(t *testing.T, text string) {
		got, to := readToken([]byte(text), []macKey{key}, 100, 1000, shares)
		if to != nil && string(appendToken(nil, &got, &key)) != text {
			t.Errorf("%q is another way to write %+v", text, got)
		}
	})
}

// sticky is a canary whose coin is tossed once per session.
func sticky(version uint64, stable, candidate string, share float64) gapless.Table {
	t := canary(version, stable, candidate, share)
	t.SessionKeys = secrets
	t.Routes[0].Sessions = &gapless.Sessions{Sticky: true, TTL: gapless.SessionTTL, Coin: "r1"}
	return t
}

// browser keeps cookies as a browser does, on a connection per request.
type browser struct {
	t      testing.TB
	addr   string
	cookie string // name=value
	line   string // the last Set-Cookie
}

func (b *browser) get(path string, fields ...string) (status int, body string) {
	b.t.Helper()
	if b.cookie != "" {
		fields = append(fields, "Cookie: theme=dark; "+b.cookie)
	}
	res, err := http.ReadResponse(bufio.NewReader(strings.NewReader(send(b.t, b.addr, get(path, append(fields, "Connection: close")...)))), nil)
	if err != nil {
		b.t.Fatal(err)
	}
	b.line = strings.Join(res.Header.Values("Set-Cookie"), "\n")
	if b.line != "" {
		b.cookie, _, _ = strings.Cut(b.line, ";")
	}
	all, err := io.ReadAll(res.Body)
	if err != nil {
		b.t.Fatal(err)
	}
	return res.StatusCode, string(all)
}

func (b *browser) body(path string, fields ...string) string {
	b.t.Helper()
	_, body := b.get(path, fields...)
	return body
}

// on gives a browser whose session is at the release that answers with body.
func on(t testing.TB, addr, body string) *browser {
	t.Helper()
	for range 1000 {
		b := &browser{t: t, addr: addr}
		if b.body("/") == body {
			return b
		}
	}
	t.Fatalf("nobody is at %q", body)
	return nil
}

func TestSessionsStayWhereTheyBegan(t *testing.T) { drivers(t, sessionsStayWhereTheyBegan) }

func sessionsStayWhereTheyBegan(t *testing.T, cfg Config) {
	one, two := saying(t, "one"), saying(t, "two")
	r, h, addr := setup(t, cfg, one)
	r.apply(sticky(2, one, two, 0.5))
	a, b := on(t, addr, "one"), on(t, addr, "two")
	if want := "; Path=/; Max-Age=86400; HttpOnly; SameSite=Lax"; !strings.HasPrefix(b.line, "gapless-shop=") || !strings.HasSuffix(b.line, want) {
		t.Errorf("cookie %q", b.line)
	}
	stay := func(what string) {
		t.Helper()
		for range 20 {
			if x, y := a.body("/"), b.body("/"); x != "one" || y != "two" {
				t.Fatalf("%s: %q and %q", what, x, y)
			}
			if a.line+b.line != "" {
				t.Fatalf("%s: told again: %q %q", what, a.line, b.line)
			}
		}
	}
	stay("at once")
	r.apply(sticky(3, one, two, 0.9))
	stay("after the weight grew")
	r.apply(sticky(4, one, two, 0.1))
	stay("after it shrank")
	next := start(t, Config{Host: h, Generation: 2, Loops: cfg.Loops})
	r.cancel()
	r.wait(20 * time.Second)
	r = next
	stay("with the next edge")
	rotated := sticky(5, one, two, 0.5)
	rotated.SessionKeys = gapless.SessionKeys{bytes.Repeat([]byte{3}, 32), secrets[0]}
	r.apply(rotated)
	stay("after the key was changed")

	aborted := table1(6, one)
	aborted.SessionKeys, aborted.Routes[0].Sessions = rotated.SessionKeys, &gapless.Sessions{Sticky: true, TTL: gapless.SessionTTL}
	r.apply(aborted)
	for range 20 {
		if x, y := a.body("/"), b.body("/"); x != "one" || y != "one" {
			t.Fatalf("after the abort: %q and %q", x, y)
		}
	}
	// Another rollout of the same releases is another coin.
	again := sticky(7, one, two, 0.5)
	again.Routes[0].Sessions.Coin = "r2"
	again.SessionKeys = rotated.SessionKeys
	r.apply(again)
	if b.body("/"); b.line == "" {
		t.Error("the coin of a rollout that is over holds in the next one")
	}
}

func TestSessionsLeaveWhatDrains(t *testing.T) {
	one, two := saying(t, "one"), saying(t, "two")
	r, _, addr := setup(t, Config{}, one)
	r.apply(sticky(2, one, two, 0.5))
	b := on(t, addr, "two")
	table := sticky(3, one, two, 0.5)
	table.Routes[0].Targets[1].Draining = true
	r.apply(table)
	if got := b.body("/"); got != "one" {
		t.Errorf("%q while its release drains", got)
	}
	zero := sticky(4, one, two, 0)
	r.apply(zero)
	b = on(t, addr, "one")
	if b.cookie != "" {
		t.Errorf("a cookie without a coin: %q", b.cookie)
	}
}

// What cannot be verified is as good as nothing; one good cookie among several
// of its name is enough, if it is among the first.
func TestCookiesThatMeanNothing(t *testing.T) { drivers(t, cookiesThatMeanNothing) }

func cookiesThatMeanNothing(t *testing.T, cfg Config) {
	one, two := saying(t, "one"), saying(t, "two")
	r, _, addr := setup(t, cfg, one)
	r.apply(sticky(2, one, two, 0.5))
	good := on(t, addr, "two").cookie
	for _, c := range []struct {
		cookies string
		holds   bool
	}{
		{good, true}, {"gapless-shop=x; " + good, true}, {"gapless-shop=; gapless-shop=a; gapless-shop=b; " + good, true},
		{strings.Repeat("gapless-shop=x; ", maxTwins) + good, false}, {strings.ToUpper(good), false}, {good + "A", false},
		{"gapless-other=" + strings.TrimPrefix(good, "gapless-shop="), false}, {`gapless-shop="` + strings.TrimPrefix(good, "gapless-shop=") + `"`, false},
	} {
		told, other := false, false
		for range 20 {
			b := &browser{t: t, addr: addr, cookie: c.cookies}
			other = b.body("/") == "one" || other
			told = told || b.line != ""
		}
		if told == c.holds || other == c.holds {
			t.Errorf("%.60q: told %v, elsewhere %v", c.cookies, told, other)
		}
	}
	r.apply(func() gapless.Table { x := sticky(3, one, two, 0.5); x.SessionKeys = nil; return x }())
	if b := (&browser{t: t, addr: addr, cookie: good}); b.body("/") == "" || b.line != "" {
		t.Error("without keys there are no sessions")
	}
}

// The coin of new sessions is the coin: as many as the weight says, however
// many come back. Chi-square with one degree of freedom.
func TestTheCoinOfSessionsIsFair(t *testing.T) {
	t.Parallel()
	for _, w := range []float64{0.01, 0.05, 0.25, 0.5, 0.9} {
		r := picking(map[string]float64{"v1": 1 - w, "v2": w}, at("v1", 1), at("v2", 2))
		spec := gapless.Route{App: "a", Stable: "v1", Weights: []gapless.Weight{{Release: "v1", Share: 1 - w}, {Release: "v2", Share: w}},
			Sessions: &gapless.Sessions{Sticky: true, TTL: gapless.SessionTTL}}
		r.sessions = newSessions(spec, r, secrets)
		x := &exchange{edge: &Edge{}}
		n := 200_000.0
		if raceEnabled {
			n /= 10 // make test has the others without the race detector
		}
		hits, again := 0.0, 0
		var cookie []byte
		for range int(n) {
			parse(t, x)
			x.session = session{}
			to := x.assign(r)
			if to.release == "v2" {
				hits++
			}
			if !x.session.tell || x.session.weight != w || x.session.release != to.release {
				t.Fatalf("%+v", x.session)
			}
			if again++; again%100 == 0 { // and who comes back stays
				cookie = appendToken(cookie[:0], &x.session.token, &r.sessions.keys[0])
				parse(t, x, "Cookie: gapless-a="+string(cookie))
				x.session = session{}
				if s := x.assign(r); s.release != to.release || x.session.tell || !x.session.counts {
					t.Fatalf("%s came back to %s: %+v", to.release, s.release, x.session)
				}
			}
		}
		if chi := (hits - n*w) * (hits - n*w) / (n * w * (1 - w)); chi > 23.9 { // once in a million
			t.Errorf("weight %v: %v of %v, chi-square %.1f", w, hits, n, chi)
		}
	}
}

func parse(t testing.TB, x *exchange, fields ...string) {
	t.Helper()
	if done, bad := x.req.ParseRequest([]byte(get("/", fields...))); !done || bad != nil {
		t.Fatal(done, bad)
	}
}

// A session changes its release at most once while the weight only grows, and
// all of them are at stable after an abort, whatever the weights.
func TestSessionsMoveAtMostOnce(t *testing.T) {
	t.Parallel()
	rng := rand.New(rand.NewPCG(3, 4))
	for range 50 {
		weights := []float64{0}
		for w := 0.0; w < 1; {
			w = min(1, w+0.02+rng.Float64()*0.4)
			weights = append(weights, w)
		}
		type client struct {
			cookie string
			at     string
			moves  int
		}
		clients := make([]client, 40)
		x := &exchange{edge: &Edge{}}
		for step, w := range weights {
			spec := gapless.Route{App: "a", Stable: "v1", Weights: []gapless.Weight{{Release: "v1", Share: 1 - w}, {Release: "v2", Share: w}},
				Sessions: &gapless.Sessions{Sticky: true, TTL: gapless.SessionTTL, Coin: "c"}}
			r := picking(map[string]float64{"v1": 1 - w, "v2": w}, at("v1", 1), at("v2", 2))
			r.sessions = newSessions(spec, r, secrets)
			for i := range clients {
				c := &clients[i]
				for range 3 {
					if rng.IntN(3) == 0 {
						continue
					}
					var fields []string
					if c.cookie != "" {
						fields = append(fields, "Cookie: gapless-a="+c.cookie)
					}
					parse(t, x, fields...)
					x.session = session{}
					to := x.assign(r).release
					if x.session.tell {
						c.cookie = string(appendToken(nil, &x.session.token, &r.sessions.keys[0]))
					}
					if step > 0 && c.at != "" && to != c.at {
						c.moves++
						if c.at != "v1" {
							t.Fatalf("weights %v: back to %s", weights[:step+1], to)
						}
					}
					c.at = to
				}
				if c.moves > 1 {
					t.Fatalf("weights %v: moved %d times", weights, c.moves)
				}
			}
		}
	}
}

// The evidence of a session has the weight at which its coin was tossed, and
// its first bad answer is told from those that follow.
func TestEvidenceOfSessions(t *testing.T) { drivers(t, evidenceOfSessions) }

func evidenceOfSessions(t *testing.T, cfg Config) {
	var broken atomic.Bool
	good := saying(t, "good")
	bad := app(t, func(w http.ResponseWriter, r *http.Request) {
		if broken.Load() {
			w.WriteHeader(500)
		}
		io.WriteString(w, "bad")
	})
	r, h, addr := setup(t, cfg, good)
	r.apply(sticky(2, good, bad, 0.5))
	b := on(t, addr, "bad")
	r.apply(sticky(3, good, bad, 0.25))
	sum := func(session string) (n uint64) {
		for _, c := range r.report().Counters {
			if c.Release == "v2" && c.Weight == 0.5 && c.Session == session {
				n += c.Requests
			}
			if c.Weight == 0.25 {
				t.Errorf("evidence at the weight of the moment: %+v", c)
			}
		}
		return n
	}
	begun := sum(gapless.SessionNew)
	if sum(gapless.SessionMore) != 0 || begun == 0 {
		t.Errorf("%d sessions, %d further requests", begun, sum(gapless.SessionMore))
	}
	for range 5 {
		b.get("/")
	}
	broken.Store(true)
	for range 4 {
		if status, _ := b.get("/"); status != 500 {
			t.Fatal(status)
		}
	}
	if n, g, f, a := sum(gapless.SessionNew), sum(gapless.SessionMore), sum(gapless.SessionLate), sum(gapless.SessionAgain); n != begun || g != 5 || f != 1 || a != 3 {
		t.Errorf("begun %d (%d before), more %d, late %d, again %d", n, begun, g, f, a)
	}
	// The next edge knows it from the cookie.
	next := start(t, Config{Host: h, Generation: 2, Loops: cfg.Loops})
	r.cancel()
	r.wait(20 * time.Second)
	r = next
	b.get("/")
	if f, a := sum(gapless.SessionLate), sum(gapless.SessionAgain); f != 0 || a != 1 {
		t.Errorf("after an upgrade: late %d, again %d", f, a)
	}
	// A session whose first request fails is one that was bad from the start.
	for b = (&browser{t: t, addr: addr}); b.cookie == ""; b.cookie = "" {
		if status, _ := b.get("/"); status == 500 {
			break
		}
	}
	b.get("/")
	failed := uint64(0)
	for _, c := range r.report().Counters {
		if c.Session == gapless.SessionNewBad && c.Release == "v2" && c.Weight == 0.25 {
			failed += c.Bad
		}
		if c.Session == gapless.SessionNewBad && c.Bad != c.Requests {
			t.Errorf("%+v", c)
		}
	}
	if failed != 1 {
		t.Errorf("%d sessions failed with their first request", failed)
	}
	// Who was sent somewhere without a coin is no evidence, whatever it brings.
	table := sticky(4, good, bad, 0.5)
	table.Routes[0].Match = []gapless.MatchRule{{Header: "X-Tester", Value: "yes", Release: "v2"}}
	r.apply(table)
	n := len(r.report().Counters)
	(&browser{t: t, addr: addr}).get("/", "X-Tester: yes")
	if got := len(r.report().Counters); got != n {
		t.Error("testers are evidence")
	}
}

func TestFirstsForgetTheOldest(t *testing.T) {
	var f firsts
	for i := range uint64(3 * mostFirsts) {
		if !f.add(i) || f.add(i) {
			t.Fatal(i)
		}
	}
	if len(f.now)+len(f.before) > 2*mostFirsts || f.add(2*mostFirsts+1) || !f.add(1) {
		t.Errorf("%d and %d remembered", len(f.now), len(f.before))
	}
}

func TestMatchesGoToTheCandidate(t *testing.T) { drivers(t, matchesGoToTheCandidate) }

func matchesGoToTheCandidate(t *testing.T, cfg Config) {
	one, two := saying(t, "one"), saying(t, "two")
	r, _, addr := setup(t, cfg, one)
	table := canary(2, one, two, 0)
	table.Routes[0].Weights = []gapless.Weight{{Release: "v1", Share: 1}}
	table.Routes[0].Match = []gapless.MatchRule{
		{Header: "X-Tester", Value: "yes", Release: "v2"},
		{Cookie: "tester", Content: "1", Release: "v2"},
		{Header: "X-Team", Value: "a", Cookie: "team", Content: "a", Release: "v2"},
	}
	r.apply(table)
	for _, c := range []struct {
		fields []string
		want   string
	}{
		{nil, "one"}, {[]string{"x-tester: yes"}, "two"}, {[]string{"X-Tester: Yes"}, "one"}, {[]string{"X-Tester: no", "X-Tester: yes"}, "two"},
		{[]string{"Cookie: a=b; tester=1"}, "two"}, {[]string{"Cookie: tester=2; tester=1"}, "one"}, {[]string{"Cookie: xtester=1"}, "one"},
		{[]string{"X-Team: a"}, "one"}, {[]string{"Cookie: team=a"}, "one"}, {[]string{"X-Team: a", "Cookie: team=a"}, "two"},
	} {
		if got := (&browser{t: t, addr: addr}).body("/", c.fields...); got != c.want {
			t.Errorf("%q: %q, want %q", c.fields, got, c.want)
		}
	}
	if got := r.report().Counters; len(got) != 0 {
		t.Errorf("matches are evidence: %v", got)
	}
	// A candidate that is not there is not missed.
	table.Version, table.Routes[0].Targets = 3, table.Routes[0].Targets[:1]
	r.apply(table)
	if got := (&browser{t: t, addr: addr}).body("/", "X-Tester: yes"); got != "one" {
		t.Errorf("%q without an instance of the candidate", got)
	}
}

// An address with the preview's cookie in its query invites a browser, which
// then stays in the preview.
func TestPreviewByCookie(t *testing.T) { drivers(t, previewByCookie) }

func previewByCookie(t *testing.T, cfg Config) {
	one, two := saying(t, "one"), saying(t, "two")
	r, _, addr := setup(t, cfg, one)
	table := canary(2, one, two, 0)
	table.Routes[0].Weights = []gapless.Weight{{Release: "v1", Share: 1}}
	table.Routes[0].Preview = &gapless.PreviewRoute{Release: "v2", Preview: gapless.Preview{Cookie: "preview", Content: "next"}}
	r.apply(table)
	b := &browser{t: t, addr: addr}
	for _, path := range []string{"/", "/?preview=no", "/?xpreview=next", "/?a=preview=next", "/preview=next"} {
		if got := b.body(path); got != "one" || b.cookie != "" {
			t.Errorf("%s: %q %q", path, got, b.cookie)
		}
	}
	if got := b.body("/x?a=b&preview=next&c"); got != "two" || b.line != "preview=next; Path=/; HttpOnly; SameSite=Lax" {
		t.Fatalf("%q, %q", got, b.line)
	}
	if got := b.body("/"); got != "two" || b.line != "" {
		t.Errorf("%q, told again: %q", got, b.line)
	}
	r.apply(table1(3, one))
	if got := b.body("/"); got != "one" {
		t.Errorf("%q after the preview", got)
	}
	if b.body("/", "X-Forwarded-Proto: https"); b.line != "" {
		t.Error(b.line)
	}
}

// What a page loads comes from the release that it came from, as long as that
// is there; a new page is a new beginning.
func TestPagesLoadFromTheirRelease(t *testing.T) { drivers(t, pagesLoadFromTheirRelease) }

func pagesLoadFromTheirRelease(t *testing.T, cfg Config) {
	one, two := saying(t, "one"), saying(t, "two")
	r, _, addr := setup(t, cfg, one)
	skewed := func(version uint64, share float64) gapless.Table {
		table := sticky(version, one, two, share)
		table.Routes[0].Sessions = &gapless.Sessions{Skew: true, TTL: gapless.SessionTTL, Coin: "r1"}
		return table
	}
	const page = "Sec-Fetch-Dest: document"
	r.apply(skewed(2, 0)) // nothing is rolled out yet
	b := &browser{t: t, addr: addr}
	if b.body("/", page); b.cookie == "" || !strings.Contains(b.line, "HttpOnly") {
		t.Fatal("a page without a cookie")
	}
	if b.body("/app.js"); b.line != "" {
		t.Error("told again")
	}
	loads := func(want, what string) {
		t.Helper()
		for range 20 {
			if got := b.body("/app.js", "Sec-Fetch-Dest: script"); got != want {
				t.Fatalf("%s: %q, want %q", what, got, want)
			}
		}
	}
	r.apply(skewed(3, 0.99))
	loads("one", "the page is of v1")
	for _, c := range r.report().Counters {
		if c.Weight != 0 || c.Release != "v1" { // what is watched where one has everything
			t.Errorf("without a coin there is no evidence: %+v", c)
		}
	}
	for b.body("/", page) != "two" {
	}
	loads("two", "the page is of v2 now")
	r.apply(skewed(4, 0.01))
	loads("two", "while it has weight")
	was := r.report().Counters
	var n uint64
	for _, c := range was {
		if c.Weight == 0 {
			continue
		}
		if c.Weight == 0.01 || c.Session == "" {
			t.Errorf("evidence: %+v", c)
		}
		n += c.Requests
	}
	if n < 41 {
		t.Errorf("%d requests are evidence of the page's coin", n)
	}
	r.apply(skewed(5, 0)) // aborted
	loads("one", "aborted")

	r.apply(skewed(6, 1))
	for b.body("/", page) != "two" {
	}
	old := &browser{t: t, addr: addr}
	r.apply(skewed(7, 0))
	old.body("/", page)
	r.apply(skewed(8, 1))
	b = old
	loads("one", "all is v2's, and v1 is there")
	kept := skewed(9, 1)
	kept.Routes[0].Stable, kept.Routes[0].Sessions.Kept = "v2", "v1"
	r.apply(kept)
	loads("one", "v1 is kept warm")
	kept.Version, kept.Routes[0].Sessions = 10, &gapless.Sessions{Skew: true, TTL: gapless.SessionTTL}
	r.apply(kept)
	loads("two", "v1 is let go")
}

// Answers that many people share have no cookie of one of them.
func TestSharedAnswersHaveNoCookie(t *testing.T) { drivers(t, sharedAnswersHaveNoCookie) }

func sharedAnswersHaveNoCookie(t *testing.T, cfg Config) {
	for control, told := range map[string]bool{"public, max-age=60": false, "max-age=5,S-MaxAge=60": false, "private": true, "max-age=60": true, "publicity": true} {
		one := app(t, func(w http.ResponseWriter, r *http.Request) { w.Header().Set("Cache-Control", control) })
		r, _, addr := setup(t, cfg, one)
		r.apply(sticky(2, one, one, 0.5))
		b := &browser{t: t, addr: addr}
		if b.get("/"); (b.line != "") != told {
			t.Errorf("%s: %q", control, b.line)
		}
		b.get("/", "X-Forwarded-Proto: https") // from a peer that is believed
		if told && b.cookie != "" {
			b.cookie = ""
			if b.get("/", "X-Forwarded-Proto: https"); !strings.HasSuffix(b.line, "; Secure") {
				t.Errorf("over https: %q", b.line)
			}
		}
	}
}

func TestPrefixIsTakenOff(t *testing.T) { drivers(t, prefixIsTakenOff) }

func prefixIsTakenOff(t *testing.T, cfg Config) {
	one := app(t, func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprint(w, r.RequestURI, " ", r.Header.Get("X-Forwarded-Prefix"))
	})
	r, _, addr := setup(t, cfg, one)
	table := table1(2, one)
	table.Routes[0].Path, table.Routes[0].Strip = "/shop", []string{"v1"}
	r.apply(table)
	for path, want := range map[string]string{"/shop": "/ /shop", "/shop/x?y": "/x?y /shop", "/shopping": "no app is served at this host and path\n"} {
		if got := (&browser{t: t, addr: addr}).body(path); got != want {
			t.Errorf("%s: %q, want %q", path, got, want)
		}
	}
}

// A request of a session on a kept connection allocates nothing.
func TestSessionsAllocateNothing(t *testing.T) { drivers(t, sessionsAllocateNothing) }

func sessionsAllocateNothing(t *testing.T, cfg Config) {
	if raceEnabled {
		t.Skip("the race detector allocates")
	}
	answer := []byte("HTTP/1.1 200 OK\r\nContent-Length: 3\r\nConnection: keep-alive\r\n\r\nabc")
	backend := raw(t, func(c net.Conn, br *bufio.Reader) {
		b := make([]byte, 4096)
		for {
			if _, err := c.Read(b); err != nil {
				return
			}
			c.Write(answer)
		}
	})
	r, _, addr := setup(t, cfg, backend)
	table := sticky(2, backend, backend, 0.5)
	table.Routes[0].Match = []gapless.MatchRule{{Header: "X-Tester", Value: "yes", Release: "v2"}, {Cookie: "tester", Content: "yes", Release: "v2"}}
	table.Routes[0].Sessions.Skew = true
	r.apply(table)
	first := &browser{t: t, addr: addr}
	first.get("/")
	c := connect(t, addr)
	request, b := []byte(get("/x", "User-Agent: test", "Cookie: theme=dark; "+first.cookie)), make([]byte, 4096)
	ask := func() {
		if _, err := c.Write(request); err != nil {
			t.Fatal(err)
		}
		n, err := c.Read(b)
		if err != nil || !bytes.HasSuffix(b[:n], []byte("abc")) || bytes.Contains(b[:n], []byte("Set-Cookie")) {
			t.Fatalf("%q %v", b[:n], err)
		}
	}
	for range 100 {
		ask()
	}
	if n := allocsPerRun(100, ask); n > 0 {
		t.Errorf("%v allocations per request", n)
	}
}

// HTTP/2 clients get the same cookies.
func TestSessionsOverHTTP2(t *testing.T) {
	one, two := saying(t, "one"), saying(t, "two")
	r, _, addr := setup(t, Config{}, one)
	r.apply(sticky(2, one, two, 0.5))
	c := h2client(t)
	var cookie *http.Cookie
	want := ""
	for n := range 20 {
		req, _ := http.NewRequest("GET", "http://"+addr+"/", nil)
		if cookie != nil {
			req.AddCookie(&http.Cookie{Name: "theme", Value: "dark"})
			req.AddCookie(cookie)
		}
		res, err := c.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		body, _ := io.ReadAll(res.Body)
		res.Body.Close()
		if n == 0 {
			if len(res.Cookies()) != 1 {
				t.Fatalf("cookies: %v", res.Cookies())
			}
			cookie, want = res.Cookies()[0], string(body)
		} else if string(body) != want || len(res.Cookies()) != 0 {
			t.Fatalf("%q, want %q; told %v", body, want, res.Cookies())
		}
	}
}

func BenchmarkSession(b *testing.B) {
	r := picking(map[string]float64{"v1": 0.5, "v2": 0.5}, at("v1", 1), at("v2", 2))
	r.sessions = newSessions(gapless.Route{App: "a", Stable: "v1", Weights: []gapless.Weight{{Release: "v1", Share: 0.5}, {Release: "v2", Share: 0.5}},
		Sessions: &gapless.Sessions{Sticky: true, TTL: gapless.SessionTTL}}, r, secrets)
	x := &exchange{edge: &Edge{}}
	parse(b, x)
	x.assign(r)
	cookie := appendToken(nil, &x.session.token, &r.sessions.keys[0])
	parse(b, x, "Cookie: theme=dark; gapless-a="+string(cookie))
	b.ReportAllocs()
	for b.Loop() {
		x.assign(r)
	}
}
