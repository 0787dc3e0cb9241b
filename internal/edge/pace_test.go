package edge

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"sync"
	"testing"
	"time"

	"gapless"
)

// Limits that every request passes, and that none does, whatever the machine
// is busy with.
const (
	atOnce = time.Nanosecond
	never  = time.Hour
)

// tooOld are limits for the releases of canary.
func tooOld(version uint64, quantile, worse, margin [gapless.Quantiles]time.Duration) gapless.LatencyLimits {
	return gapless.LatencyLimits{Version: version, Stable: "v1", Candidate: "v2", Quantile: quantile, Worse: worse, Margin: margin}
}

// everywhere is the same limit wherever there is one.
func everywhere(version uint64, d time.Duration) gapless.LatencyLimits {
	all := [gapless.Quantiles]time.Duration{d, d, d}
	return tooOld(version, all, all, all)
}

// pace has the edge count by limits of age, and waits until it does.
func (r *running) pace(w *Watching, l gapless.LatencyLimits) {
	r.t.Helper()
	if err := w.Pace(r.t.Context(), map[string]gapless.LatencyLimits{"shop": l}); err != nil {
		r.t.Fatal(err)
	}
	eventually(r.t, "the limits hold", func() bool {
		rep := r.report()
		v, known := rep.Paced["shop"]
		return rep.Paced != nil && v == l.Version && known == (l.Version > 0)
	})
}

// paces adds up the paces of a release.
func (r *running) paces(release string) (sum gapless.Paces) {
	r.t.Helper()
	for _, c := range r.report().Counters {
		if c.Paces != (gapless.Paces{}) && c.Kind != "" {
			r.t.Errorf("paces of a bad answer: %+v", c)
		}
		if c.Release == release {
			sum = sum.Plus(c.Paces)
		}
	}
	return sum
}

// all are paces in which every limit has seen the same.
func all(fast, slow uint64) (p gapless.Paces) {
	for i := range gapless.Quantiles {
		p.Worse[i] = gapless.Pace{Fast: fast, Slow: slow}
	}
	p.Margin = p.Worse
	return p
}

func TestAgesAreCounted(t *testing.T) { drivers(t, agesAreCounted) }

func agesAreCounted(t *testing.T, cfg Config) {
	one := saying(t, "one")
	two := app(t, func(w http.ResponseWriter, r *http.Request) { // bad answers have an age, too
		if rand.IntN(2) == 0 {
			w.WriteHeader(500)
		}
		io.WriteString(w, "two")
	})
	r, h, addr := setup(t, cfg, one)
	w := watching(t, r)
	r.apply(canary(2, one, two, 0.5))
	ask := func(n int) (v1, v2 uint64) {
		for range n {
			if _, body, _ := fetch(t, addr); body == "one" {
				v1++
			} else {
				v2++
			}
		}
		return v1, v2
	}
	ask(20)
	if p := r.report().Paced; p == nil || len(p) > 0 {
		t.Errorf("limits that hold: %v", p)
	}
	if r.paces("v1") != (gapless.Paces{}) || r.paces("v2") != (gapless.Paces{}) {
		t.Error("ages are counted without limits")
	}
	r.pace(w, tooOld(1, [3]time.Duration{never, atOnce, 0}, [3]time.Duration{atOnce, 0, never}, [3]time.Duration{0, never, atOnce}))
	s, c := ask(60)
	var want1, want2 gapless.Paces
	want1.Worse = [3]gapless.Pace{{Fast: s}, {Slow: s}, {}}
	want1.Margin = want1.Worse
	want2.Worse = [3]gapless.Pace{{Slow: c}, {}, {Fast: c}}
	want2.Margin = [3]gapless.Pace{{}, {Fast: c}, {Slow: c}}
	check := func(what string) {
		t.Helper()
		if got := r.paces("v1"); got != want1 {
			t.Errorf("%s: stable %+v, want %+v", what, got, want1)
		}
		if got := r.paces("v2"); got != want2 {
			t.Errorf("%s: candidate %+v, want %+v", what, got, want2)
		}
	}
	check("first limits")
	// Another weight is another counter, and has its own limits at once.
	r.apply(canary(3, one, two, 0.25))
	s, c = ask(40)
	for i := range gapless.Quantiles {
		grow := func(p *gapless.Pace, n uint64) {
			if p.Fast > 0 {
				p.Fast += n
			} else if p.Slow > 0 {
				p.Slow += n
			}
		}
		grow(&want1.Worse[i], s)
		grow(&want1.Margin[i], s)
		grow(&want2.Worse[i], c)
		grow(&want2.Margin[i], c)
	}
	check("another weight")
	r.pace(w, everywhere(2, never))
	s, c = ask(40)
	want1, want2 = want1.Plus(all(s, 0)), want2.Plus(all(c, 0))
	check("other limits")

	// What no coin decided is no evidence, nor what the limits are not for.
	table := canary(4, one, two, 0.5)
	table.Routes[0].Match = []gapless.MatchRule{{Header: "X-Tester", Value: "yes", Release: "v2"}}
	table.Routes[0].Preview = &gapless.PreviewRoute{Release: "v2", Preview: gapless.Preview{Header: "X-Preview", Value: "yes"}}
	r.apply(table)
	for range 10 {
		(&browser{t: t, addr: addr}).get("/", "X-Tester: yes")
		(&browser{t: t, addr: addr}).get("/", "X-Preview: yes")
	}
	check("testers and previews")
	other := everywhere(3, never)
	other.Candidate = "v3"
	r.pace(w, other)
	ask(10)
	check("limits of other releases")
	r.pace(w, gapless.LatencyLimits{})
	ask(10)
	check("no limits")
	r.pace(w, everywhere(4, never))
	r.apply(table1(5, one))
	ask(10)
	check("one release alone")

	// Another generation knows of no limits until it is told.
	r.apply(canary(6, one, two, 0.5))
	next := start(t, Config{Host: h, Generation: 2, Loops: cfg.Loops})
	r.cancel()
	r.wait(20 * time.Second)
	r = next
	if rep := r.report(); rep.Paced == nil || len(rep.Paced) > 0 {
		t.Errorf("a new generation counts by %v", rep.Paced)
	}
	r.pace(watching(t, r), everywhere(4, atOnce))
	s, c = ask(20)
	want1, want2 = all(0, s), all(0, c)
	check("the next generation")
}

// A request that hangs is slow as soon as it is too old, and counted once;
// what holds is what held when it came.
func TestHangingRequestsAreSlow(t *testing.T) { drivers(t, hangingRequestsAreSlow) }

func hangingRequestsAreSlow(t *testing.T, cfg Config) {
	entered, leave := make(chan bool, 10), make(chan bool)
	slow := app(t, func(w http.ResponseWriter, r *http.Request) {
		entered <- true
		select {
		case <-leave:
		case <-r.Context().Done():
		}
	})
	r, _, addr := setup(t, cfg, slow)
	w := watching(t, r)
	r.apply(canary(2, slow, slow, 1))
	const soon = 50 * time.Millisecond
	r.pace(w, tooOld(1, [3]time.Duration{}, [3]time.Duration{soon, soon, soon}, [3]time.Duration{never, never, never}))
	ask := func() net.Conn {
		c := connect(t, addr)
		if _, err := io.WriteString(c, get("/")); err != nil {
			t.Fatal(err)
		}
		<-entered
		return c
	}
	first, second := ask(), ask()
	var want gapless.Paces
	for i := range gapless.Quantiles {
		want.Worse[i].Slow = 2
	}
	eventually(t, "those that hang are slow", func() bool { return r.paces("v2") == want })
	r.pace(w, everywhere(2, never)) // of those that come from now on
	third := ask()
	for range 5 {
		if got := r.paces("v2"); got != want {
			t.Fatalf("%+v, want %+v", got, want)
		}
	}
	first.Close() // nobody knows how long it would have taken
	eventually(t, "the abort is seen", func() bool { return r.traffic("v2").Aborted == 1 })
	if got := r.paces("v2"); got != want {
		t.Errorf("an abort: %+v, want %+v", got, want)
	}
	close(leave)
	for _, c := range []net.Conn{second, third} {
		if _, err := http.ReadResponse(bufio.NewReader(c), nil); err != nil {
			t.Fatal(err)
		}
	}
	for i := range gapless.Quantiles {
		want.Worse[i].Fast++
		want.Margin[i].Fast += 2
	}
	eventually(t, "all is counted", func() bool { return r.paces("v2") == want })
}

// A retry is at the expense of the release that the coin chose, a hold at
// nobody's, and a stream is as old as its first byte.
func TestAgesOfWhatIsNotOrdinary(t *testing.T) { drivers(t, agesOfWhatIsNotOrdinary) }

func agesOfWhatIsNotOrdinary(t *testing.T, cfg Config) {
	ended := make(chan bool)
	defer close(ended)
	events := app(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		io.WriteString(w, "data: x\n\n")
		w.(http.Flusher).Flush()
		<-ended
	})
	good := saying(t, "good")
	r, _, addr := setup(t, cfg, good)
	w := watching(t, r)
	r.pace(w, everywhere(1, never)) // before there is a route that they are for
	r.apply(canary(2, good, closedPort(t), 1))
	for range 5 {
		if _, body, _ := fetch(t, addr); body != "good" {
			t.Fatal(body)
		}
	}
	if got := r.paces("v2"); got != all(5, 0) || r.paces("v1") != (gapless.Paces{}) {
		t.Errorf("retries: %+v, and %+v of who answered", got, r.paces("v1"))
	}
	r.apply(canary(3, good, events, 1))
	c := connect(t, addr)
	io.WriteString(c, get("/"))
	if _, err := http.ReadResponse(bufio.NewReader(c), nil); err != nil {
		t.Fatal(err)
	}
	eventually(t, "a stream counts when it begins", func() bool { return r.paces("v2") == all(6, 0) })

	const soon = 100 * time.Millisecond
	r.pace(w, everywhere(2, 5*time.Second))
	held := canary(4, good, good, 1)
	held.Routes[0].Held, held.Routes[0].Hold = true, gapless.Duration(time.Minute)
	r.apply(held)
	answer := make(chan string, 1)
	go func() { answer <- send(t, addr, get("/", "Connection: close")) }()
	eventually(t, "it is held", func() bool { return r.traffic("v2").Held == 1 })
	r.pace(w, everywhere(3, soon))
	time.Sleep(2 * soon)
	if got := r.paces("v2"); got != all(6, 0) {
		t.Errorf("while it is held: %+v", got)
	}
	r.apply(canary(5, good, good, 1))
	<-answer
	if got := r.paces("v2"); got != all(7, 0) {
		t.Errorf("held, then answered: %+v", got)
	}
}

// Of a session only its first request is evidence of how old requests become.
func TestAgesOfSessions(t *testing.T) { drivers(t, agesOfSessions) }

func agesOfSessions(t *testing.T, cfg Config) {
	good := saying(t, "good")
	r, _, addr := setup(t, cfg, good)
	r.apply(sticky(2, good, good, 0.5))
	r.pace(watching(t, r), everywhere(1, never))
	for range 3 {
		b := &browser{t: t, addr: addr}
		for range 7 {
			b.get("/")
		}
	}
	if got := r.paces("v1").Plus(r.paces("v2")); got != all(3, 0) {
		t.Errorf("%+v", got)
	}
	for _, c := range r.report().Counters {
		if c.Paces != (gapless.Paces{}) && (c.Session != gapless.SessionNew || c.Weight != 0.5) {
			t.Errorf("%+v", c)
		}
	}
}

// Whatever happens at once, each request is counted once by each limit, and
// no number goes back.
func TestPacerCountsOnce(t *testing.T) {
	const workers, rounds = 8, 3000
	p := &pacer{}
	with := func(limits ...int64) *ages {
		a := &ages{pacer: p, least: 1 << 60}
		copy(a.limits[:], limits)
		a.leaves = a.limits
		for _, l := range limits {
			if l > 0 {
				a.least = min(a.least, l)
			}
		}
		return a
	}
	kinds := []*ages{with(10, 20, 0, 15, 1000, 5), with(7, 0, 0, 1000, 3, 1), with(1000)}
	stop := make(chan struct{})
	var looked, done sync.WaitGroup
	looked.Go(func() {
		before := gapless.Paces{}
		for now := int64(0); ; now++ {
			p.look(now % 40)
			sum := p.sum()
			if before.Minus(sum) != (gapless.Paces{}) {
				t.Errorf("went back: %+v, %+v", before, sum)
				return
			}
			before = sum
			select {
			case <-stop:
				return
			default:
			}
		}
	})
	var mu sync.Mutex
	var least, most [paceLimits]uint64
	for id := range workers {
		done.Go(func() {
			rng := rand.New(rand.NewPCG(uint64(id), 1))
			var low, high [paceLimits]uint64
			for range rounds {
				x, a := &aging{}, kinds[rng.IntN(len(kinds))]
				since := rng.Int64N(30)
				if !a.enter(x, since) {
					t.Error("not taken")
				}
				if rng.IntN(4) == 0 {
					x.pause(since + rng.Int64N(5))
					x.resume(since + 3)
				}
				answered := rng.IntN(3) > 0
				if answered {
					x.end(rng.Int64N(30))
				} else {
					x.leave(since + rng.Int64N(30))
				}
				for k, l := range a.limits {
					if l > 0 {
						high[k]++
						if answered {
							low[k]++
						}
					}
				}
			}
			mu.Lock()
			defer mu.Unlock()
			for k := range paceLimits {
				least[k], most[k] = least[k]+low[k], most[k]+high[k]
			}
		})
	}
	done.Wait()
	close(stop)
	looked.Wait()
	if p.first != nil || p.last != nil {
		t.Error("something is in flight still")
	}
	for k := range paceLimits {
		if n := p.pace(k).Fast + p.pace(k).Slow; n < least[k] || n > most[k] {
			t.Errorf("limit %d: %d were counted, %d to %d came", k, n, least[k], most[k])
		}
	}
}

// Every request in one thread, so that the numbers are known.
func TestPacer(t *testing.T) {
	p := &pacer{}
	a := &ages{pacer: p, limits: [paceLimits]int64{10, 100, 0, 50, 0, 1000}, least: 10}
	a.leaves = a.limits
	want := func(what string, w, m [3]gapless.Pace) {
		t.Helper()
		if got := p.sum(); got != (gapless.Paces{Worse: w, Margin: m}) {
			t.Errorf("%s: %+v", what, got)
		}
	}
	var x, y, z aging
	a.enter(&x, 0)
	a.enter(&y, 5)
	a.enter(&z, 40)
	p.look(10) // as old as a limit is not older
	want("young", [3]gapless.Pace{}, [3]gapless.Pace{})
	p.look(60)
	want("x and y passed two limits, z one", [3]gapless.Pace{{Slow: 3}, {}, {}}, [3]gapless.Pace{{Slow: 2}, {}, {}})
	p.look(60)
	p.look(20)
	want("looked again", [3]gapless.Pace{{Slow: 3}, {}, {}}, [3]gapless.Pace{{Slow: 2}, {}, {}})
	z.end(45)
	want("z answers", [3]gapless.Pace{{Slow: 3}, {Fast: 1}, {}}, [3]gapless.Pace{{Slow: 2, Fast: 1}, {}, {Fast: 1}})
	y.leave(200)
	want("y is given up", [3]gapless.Pace{{Slow: 3}, {Fast: 1, Slow: 1}, {}}, [3]gapless.Pace{{Slow: 2, Fast: 1}, {}, {Fast: 1}})
	p.look(5000)
	if x.listed || p.first != nil {
		t.Error("what has passed all limits is looked at again and again")
	}
	x.end(6000)
	want("x answers at last", [3]gapless.Pace{{Slow: 3}, {Fast: 1, Slow: 2}, {}}, [3]gapless.Pace{{Slow: 2, Fast: 1}, {}, {Fast: 1, Slow: 1}})
	if x.by != nil || y.by != nil || z.by != nil {
		t.Error("somebody is still looked at")
	}
}

// Clients that wait no longer than the margin hide no slow request of the
// candidate: what they gave up is slow by the margin as one of stable would be.
func TestWhoGoesAwayIsNoProof(t *testing.T) {
	l := tooOld(1, [3]time.Duration{10, 20, 30}, [3]time.Duration{11, 21, 31}, [3]time.Duration{15, 30, 0})
	for _, c := range []struct {
		age    int64
		stable bool
		want   gapless.Paces
	}{
		{9, true, gapless.Paces{}},
		{9, false, gapless.Paces{}},
		{21, true, gapless.Paces{Worse: [3]gapless.Pace{{Slow: 1}, {Slow: 1}, {}}, Margin: [3]gapless.Pace{{Slow: 1}, {Slow: 1}, {}}}},
		{21, false, gapless.Paces{Worse: [3]gapless.Pace{{Slow: 1}, {}, {}}, Margin: [3]gapless.Pace{{Slow: 1}, {Slow: 1}, {}}}},
	} {
		for _, looked := range []bool{false, true} {
			a := agesOf(l, c.stable)
			a.pacer = &pacer{}
			var x aging
			a.enter(&x, 100)
			if looked {
				a.look(100 + c.age)
			}
			if x.leave(100 + c.age); a.sum() != c.want {
				t.Errorf("stable %v, given up at %d: %+v", c.stable, c.age, a.sum())
			}
		}
	}
}

// A counter is kept while a request may be counted by it; one that was freed
// is made anew.
func TestPacersAreFreed(t *testing.T) {
	e := &Edge{start: time.Now()}
	c := &e.counters
	c.Serve(map[string]uint64{"shop": 1})
	a := &arm{app: "shop", release: "v2", version: 1, weight: 0.25}
	by := agesOf(everywhere(1, never), false)
	by.pacer = c.pacer(a.key())
	a.ages.Store(by)
	x := &exchange{edge: e, chosen: &share{arm: a}}
	x.age()
	c.Serve(map[string]uint64{"shop": 2})
	report := func() []gapless.Counter { // and it is acknowledged
		seq, list := c.Report()
		c.Acknowledge("shop", seq)
		return list
	}
	report()
	report()
	if by.freed {
		t.Fatal("freed although a request is in flight")
	}
	x.aged()
	list := report()
	if len(list) != 1 || list[0].Paces != all(1, 0) {
		t.Fatalf("%+v", list)
	}
	if list = report(); len(list) > 0 || !by.freed {
		t.Fatalf("kept: %+v", list)
	}
	x.age() // by a table that is gone
	x.aged()
	again, _ := c.Report()
	if _, list = c.Report(); again == 0 || len(list) != 1 || list[0].Paces != all(1, 0) || list[0].Number == 1 {
		t.Errorf("%+v", list)
	}
}

// Judging the age of a request allocates nothing.
func TestAgesAllocateNothing(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector allocates")
	}
	drivers(t, func(t *testing.T, cfg Config) {
		ask := judgedExchange(t, cfg, true)
		for range 100 {
			ask()
		}
		if n := allocsPerRun(2000, ask); n > 0 {
			t.Errorf("%v allocations per request", n)
		}
	})
}

// judgedExchange returns a request on a kept connection to a canary, with or
// without limits of age.
func judgedExchange(t testing.TB, cfg Config, limits bool) (ask func()) {
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
	r.apply(canary(2, backend, backend, 0.5))
	if limits {
		r.pace(watching(t, r), everywhere(1, 20*time.Microsecond))
	}
	c := connect(t, addr)
	request, b := []byte(get("/x", "User-Agent: test")), make([]byte, 4096)
	return func() {
		if _, err := c.Write(request); err != nil {
			t.Fatal(err)
		}
		if n, err := c.Read(b); err != nil || !bytes.HasSuffix(b[:n], []byte("abc")) {
			t.Fatalf("%q %v", b[:n], err)
		}
	}
}

// BenchmarkJudgedExchange is what a request of a canary costs, with limits of
// age and without them.
func BenchmarkJudgedExchange(b *testing.B) {
	for name, loops := range map[string]int{"loops": 1, "goroutines": -1} {
		for _, limits := range []bool{false, true} {
			b.Run(fmt.Sprintf("%s/limits=%v", name, limits), func(b *testing.B) {
				ask := judgedExchange(b, Config{Loops: loops}, limits)
				b.ReportAllocs()
				for b.Loop() {
					ask()
				}
			})
		}
	}
}

// BenchmarkAge is what counting by limits of age itself costs a request.
func BenchmarkAge(b *testing.B) {
	e := &Edge{start: time.Now()}
	a := &arm{app: "shop", release: "v2", version: 1, weight: 0.25}
	x := &exchange{edge: e, chosen: &share{arm: a}}
	for _, limits := range []bool{false, true} {
		b.Run(fmt.Sprintf("limits=%v", limits), func(b *testing.B) {
			a.ages.Store(nil)
			if limits {
				by := agesOf(everywhere(1, never), false)
				by.pacer = e.counters.pacer(a.key())
				a.ages.Store(by)
			}
			b.ReportAllocs()
			for b.Loop() {
				x.age()
				x.aged()
			}
			if per := b.Elapsed() / time.Duration(b.N); os.Getenv("GAPLESS_TIMES") != "" && b.N > 1000 && per > 300*time.Nanosecond {
				b.Errorf("counting ages takes %s per request, more than 300 ns", per)
			}
		})
	}
}
