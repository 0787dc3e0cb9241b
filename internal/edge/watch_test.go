package edge

import (
	"io"
	"net/http"
	"slices"
	"testing"
	"time"

	"gapless"
)

func watching(t testing.TB, r *running) *Watching {
	t.Helper()
	w, err := Watch(t.Context(), r.socket)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { w.Close() })
	return w
}

func badOf(rep gapless.EdgeReport) (n uint64) {
	for _, c := range rep.Counters {
		n += c.Bad
	}
	return n
}

// A bad answer is pushed: the report that has it does not wait for its time.
func TestBadAnswersArePushed(t *testing.T) {
	good := saying(t, "good")
	bad := app(t, func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(500) })
	r, _, addr := setup(t, Config{}, good)
	r.apply(canary(2, good, bad, 1))
	w := watching(t, r)
	var times []time.Duration
	seen := uint64(0)
	for range 15 {
		began := time.Now()
		fetch(t, addr)
		for {
			rep, news, err := w.Next()
			if err != nil {
				t.Fatal(err)
			}
			if n := badOf(rep); n > seen {
				if !slices.Equal(news, []string{"shop"}) {
					t.Errorf("it came without being news: %v", news)
				}
				seen = n
				break
			} else if len(news) > 0 && n != seen {
				t.Errorf("news without anything new: %v", news)
			}
		}
		times = append(times, time.Since(began))
		time.Sleep(2 * pushSpacing)
	}
	slices.Sort(times)
	t.Logf("from asking to the report that has the bad answer: p50 %s, max %s", times[len(times)/2], times[len(times)-1])
	if p50 := times[len(times)/2]; p50 > 50*time.Millisecond {
		t.Errorf("p50 %s", p50)
	}
}

// Reports come by themselves, are numbered, and say whose they are.
func TestReportsKeepComing(t *testing.T) {
	r, _, addr := setup(t, Config{}, saying(t, "x"))
	r.apply(canary(2, saying(t, "x"), saying(t, "y"), 0.5))
	fetch(t, addr)
	w := watching(t, r)
	var last gapless.EdgeReport
	for k := range 5 {
		rep, _, err := w.Next()
		if err != nil {
			t.Fatal(err)
		}
		if rep.Start == "" || k > 0 && (rep.Start != last.Start || rep.Seq <= last.Seq || rep.Made <= last.Made) {
			t.Errorf("after %s %d comes %s %d", last.Start, last.Seq, rep.Start, rep.Seq)
		}
		last = rep
	}
	if now := Clock(); last.Made > now || last.Made < now-10*time.Second {
		t.Errorf("made at %s, it is %s", last.Made, now)
	}
	// An acknowledgement on the same connection frees what is over.
	r.apply(table1(3, saying(t, "x")))
	eventually(t, "freed", func() bool {
		rep, _, err := w.Next()
		if err != nil {
			t.Fatal(err)
		}
		if err := w.Tell(t.Context(), map[string]uint64{"shop": rep.Seq}, nil); err != nil {
			t.Fatal(err)
		}
		return rep.Version == 3 && len(rep.Counters) == 0
	})
}

// An edge that ends says its last word.
func TestLastWord(t *testing.T) {
	t.Parallel()
	good := saying(t, "good")
	r, _, addr := setup(t, Config{}, good)
	r.apply(canary(2, good, good, 0.5))
	w := watching(t, r)
	if _, _, err := w.Next(); err != nil {
		t.Fatal(err)
	}
	for range 20 {
		fetch(t, addr)
	}
	r.cancel()
	var last gapless.EdgeReport
	for {
		rep, _, err := w.Next()
		if err != nil {
			break
		}
		last = rep
	}
	n := uint64(0)
	for _, c := range last.Counters {
		n += c.Requests
	}
	if n != 20 || !last.Draining {
		t.Errorf("its last word has %d of 20 requests, draining %v", n, last.Draining)
	}
	r.wait(5 * time.Second)
}

// Whoever watches and takes nothing holds nobody up, not even the end.
func TestWatcherThatTakesNothing(t *testing.T) {
	t.Parallel()
	good := saying(t, "good")
	r, _, addr := setup(t, Config{}, good)
	bad := app(t, func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(500); io.WriteString(w, "bad") })
	r.apply(canary(2, good, bad, 1))
	watching(t, r)
	for range 100 {
		fetch(t, addr)
	}
	r.report()
	r.cancel()
	r.wait(8 * time.Second)
}
