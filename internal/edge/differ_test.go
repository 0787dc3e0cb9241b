package edge

import (
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// The start of HTTP/2 is known in whatever pieces it comes, by both drivers.
func TestPrefaceDividedAnywhere(t *testing.T) {
	const preface = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00"
	for _, d := range corpusDrivers {
		t.Run(d.name, func(t *testing.T) {
			_, _, addr := setup(t, Config{Loops: d.loops}, newStrict(t).addr)
			var wg sync.WaitGroup
			for _, at := range offsets(len(preface)) {
				wg.Go(func() {
					c, err := net.Dial("tcp", addr)
					if err != nil {
						t.Error(err)
						return
					}
					defer c.Close()
					c.SetDeadline(time.Now().Add(20 * time.Second))
					inParts(c, preface, at)
					var head [9]byte // a frame: SETTINGS
					if _, err := io.ReadFull(c, head[:]); err != nil || head[3] != 4 {
						t.Errorf("divided at %d: %q %v", at, head, err)
					}
				})
			}
			wg.Wait()
		})
	}
}

// twins are an edge of each driver with the same instance behind.
type twins struct {
	stands [2]*stand
}

// alike sends in, divided, to both drivers and compares what the clients got
// and what the instances received.
func (w *twins) alike(in []byte, at int) error {
	var got [2]string
	var whole, parts [2][]string
	var wg sync.WaitGroup
	for k, p := range w.stands {
		wg.Go(func() {
			c, err := net.Dial("tcp", p.addr)
			if err != nil {
				got[k] = err.Error()
				return
			}
			defer c.Close()
			c.SetDeadline(time.Now().Add(20 * time.Second))
			inParts(c, string(in), at)
			c.(*net.TCPConn).CloseWrite()
			b, err := io.ReadAll(c)
			if err != nil && os.IsTimeout(err) {
				got[k] = "timeout "
			}
			got[k] += strings.ReplaceAll(string(b), p.addr, here)
			// Whether it comes before a refusal depends on who was faster.
			got[k] = strings.ReplaceAll(got[k], "HTTP/1.1 100 Continue\r\n\r\n", "")
			whole[k], parts[k] = p.app.take()
			for m := range whole[k] {
				whole[k][m], _ = natural(whole[k][m], p.addr)
			}
		})
	}
	wg.Wait()
	if strings.HasPrefix(got[0], "timeout ") || strings.HasPrefix(got[1], "timeout ") {
		return fmt.Errorf("no end: the clients got %q and %q", got[0], got[1])
	}
	if a, b := strings.Join(whole[0], "|"), strings.Join(whole[1], "|"); a != b {
		return fmt.Errorf("the instances got\n %q (goroutines)\n %q (loop)", a, b)
	}
	if got[0] != got[1] {
		return fmt.Errorf("the clients got\n %q (goroutines)\n %q (loop)", got[0], got[1])
	}
	for k, msgs := range whole { // and it is what was sent, in its order
		last := 0
		for _, m := range msgs {
			method, _, _ := strings.Cut(m, " ")
			n := strings.Index(string(in[last:]), method)
			if n < 0 {
				return fmt.Errorf("%s: an instance got %q, which nobody sent", corpusDrivers[k].name, m)
			}
			last += n + len(method)
		}
	}
	return nil
}

func newTwins(t testing.TB) *twins {
	var w twins
	for k, d := range corpusDrivers {
		w.stands[k] = stands(t, Config{Loops: d.loops}, 1)[0]
	}
	return &w
}

// mixed makes a request out of pieces of the corpus.
func mixed(r *rand.Rand, list []question) []byte {
	var b []byte
	for range 1 + r.IntN(3) {
		q := list[r.IntN(len(list))].in
		if len(q) > 4000 {
			q = q[:r.IntN(4000)]
		}
		b = append(b, q...)
	}
	for range r.IntN(4) {
		if len(b) < 2 {
			break
		}
		k := r.IntN(len(b))
		switch r.IntN(6) {
		case 0:
			b[k] = byte(r.IntN(256))
		case 1:
			b = append(b[:k], b[k+1:]...)
		case 2:
			n := min(1+r.IntN(8), len(b)-k)
			b = append(b[:k+n], b[k:]...)
		case 3:
			q := list[r.IntN(len(list))].in
			from := r.IntN(len(q))
			b = append(b[:k:k], append([]byte(q[from:min(len(q), from+1+r.IntN(40))]), b[k:]...)...)
		case 4:
			b = append(b[:k:k], append([]byte{"\r\n\x00 \t:;,0%"[r.IntN(10)]}, b[k:]...)...)
		case 5:
			b = b[:k+1]
		}
	}
	return b
}

// TestDriversAreAlike sends requests made of the corpus to both drivers. What
// failed can be had again with its seed in GAPLESS_TEST_SEED.
func TestDriversAreAlike(t *testing.T) {
	t.Parallel()
	seed := uint64(time.Now().UnixNano())
	if s, err := strconv.ParseUint(os.Getenv("GAPLESS_TEST_SEED"), 10, 64); err == nil {
		seed = s
	}
	list := questions()
	ctx, stop := context.WithTimeout(t.Context(), fuzzFor(5*time.Second))
	defer stop()
	var wg sync.WaitGroup
	var total [6]int
	for k := range total {
		w := newTwins(t)
		wg.Go(func() {
			r := rand.New(rand.NewPCG(seed, uint64(k)))
			for ctx.Err() == nil {
				in := mixed(r, list)
				at := []int{0, 0, -1, r.IntN(len(in) + 1)}[r.IntN(4)]
				total[k]++
				if err := w.alike(in, at); err != nil {
					t.Errorf("seed %d, request %d of %d, divided at %d: %q\n%v", seed, total[k], k, at, in, err)
					return
				}
			}
		})
	}
	wg.Wait()
	n := 0
	for _, x := range total {
		n += x
	}
	t.Logf("seed %d: %d requests", seed, n)
	if n < 50 {
		t.Errorf("only %d requests", n)
	}
}

// FuzzDrivers is the same with the fuzzer's eyes.
func FuzzDrivers(f *testing.F) {
	for k, q := range questions() {
		if k%8 == 0 && len(q.in) < 1000 {
			f.Add([]byte(q.in+goodRequest), 0)
			f.Add([]byte(q.in+goodRequest), len(q.in)/2)
		}
	}
	w := newTwins(f)
	f.Fuzz(func(t *testing.T, in []byte, at int) {
		if len(in) > 8<<10 {
			return
		}
		if at >= len(in) || at < -1 {
			at = 0
		}
		if err := w.alike(in, at); err != nil {
			t.Errorf("divided at %d: %q\n%v", at, in, err)
		}
	})
}

// fuzzFor is d, or what GAPLESS_TEST_FUZZ says.
func fuzzFor(d time.Duration) time.Duration {
	if longer, err := time.ParseDuration(os.Getenv("GAPLESS_TEST_FUZZ")); err == nil {
		return longer
	}
	return d
}

// A preface that does not go on is refused alike, wherever it stops.
func TestBrokenPrefaces(t *testing.T) {
	w := newTwins(t)
	for _, in := range []string{"PRI ", "PRI M", "PRI * HTTP/2.0\r\n", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r", "PRINT / HTTP/1.1\r\nHost: a\r\n\r\n", "PR"} {
		for _, at := range []int{0, 1, -1} {
			if err := w.alike([]byte(in), at); err != nil {
				t.Errorf("%q divided at %d: %v", in, at, err)
			}
		}
	}
}
