package real

import (
	"context"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"gapless/internal/api"
	"gapless/test/rig"
)

// visit is one request of a visitor, and what came of it.
type visit struct {
	began, ended time.Time
	status       int
	body, retry  string
	err          error
}

// visitors ask an app all the time, on kept connections and on fresh ones,
// with quick and slow requests, until stop is called.
func visitors(t *testing.T, address string) (stop func() []visit) {
	var mu sync.Mutex
	var all []visit
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	for n := range 12 {
		path := "/"
		if n%4 == 3 {
			path = "/slow?ms=400"
		}
		client := &http.Client{Timeout: 20 * time.Second, Transport: &http.Transport{DisableKeepAlives: n%3 == 0}}
		wg.Go(func() {
			defer client.CloseIdleConnections()
			for ctx.Err() == nil {
				v := visit{began: time.Now()}
				res, err := client.Get("http://" + address + path)
				if v.err = err; err == nil {
					b, err := io.ReadAll(res.Body)
					res.Body.Close()
					v.status, v.body, v.retry, v.err = res.StatusCode, string(b), res.Header.Get("Retry-After"), err
				}
				v.ended = time.Now()
				mu.Lock()
				all = append(all, v)
				mu.Unlock()
				time.Sleep(15 * time.Millisecond)
			}
		})
	}
	return func() []visit {
		cancel()
		wg.Wait()
		if len(all) < 100 {
			t.Errorf("only %d visits", len(all))
		}
		return all
	}
}

// TestMaintenanceUnderLoad: visitors get the page between on and off and at
// no other time, and no request is lost around either. It stays over the death
// of the daemon and of the edge.
func TestMaintenanceUnderLoad(t *testing.T) {
	r := rig.New(t, "")
	r.App("http")
	configure(r, "http", 2, "")
	r.Rollout(0, "up")
	page := "<h1>back soon</h1>" + strings.Repeat(" ", 40<<10)
	r.Write("../sorry.html", page)

	stop := visitors(t, r.Address)
	time.Sleep(time.Second)
	on := time.Now()
	r.Must(0, "maintenance", "on", "--page", "../sorry.html", "--retry-after", "2m")
	isOn := time.Now()
	time.Sleep(time.Second)
	off := time.Now()
	r.Must(0, "maintenance", "off")
	isOff := time.Now()
	time.Sleep(time.Second)
	before, pages, after := 0, 0, 0
	for _, v := range stop() {
		switch {
		case v.err != nil:
			t.Errorf("lost, %v after on, %v after off: %v", v.began.Sub(on), v.began.Sub(off), v.err)
		case v.status == 200 && v.began.Before(isOn):
			before++
		case v.status == 200 && v.ended.After(off):
			after++
		case v.status == 503 && v.body == page && v.retry == "120" && v.ended.After(on) && v.began.Before(isOff):
			pages++
		default:
			t.Errorf("%d (%d bytes, retry after %q), begun %v after on and %v after off, took %v", v.status, len(v.body), v.retry, v.began.Sub(on), v.began.Sub(off), v.ended.Sub(v.began))
		}
	}
	if before < 30 || pages < 30 || after < 30 {
		t.Errorf("%d visits before, %d pages, %d visits after: nothing is proven", before, pages, after)
	}

	r.Must(0, "maintenance", "on", "--page", "../sorry.html")
	for _, name := range []string{"daemon", "edge"} {
		was := r.Proc(name)
		rig.Kill(t, was.PID)
		rig.Eventually(t, 10*time.Second, "another "+name+" runs", func() bool {
			return slices.ContainsFunc(r.Look().Procs, func(p api.Proc) bool { return p.Name == name && p.PID != was.PID })
		})
		res, err := http.Get("http://" + r.Address + "/")
		if err != nil {
			t.Fatal(err)
		}
		b, _ := io.ReadAll(res.Body)
		res.Body.Close()
		if res.StatusCode != 503 || string(b) != page {
			t.Errorf("after the death of the %s: %d %.40q", name, res.StatusCode, b)
		}
	}
	if st := r.Look().Apps[0]; st.Traffic == nil || st.Traffic.Maintenance == nil || st.Traffic.Maintenance.Page != len(page) {
		t.Errorf("status: %+v", st.Traffic)
	}
	r.Must(0, "maintenance", "off")
}

// TestHoldUnderLoad: while a person holds the traffic nobody gets anything,
// and afterwards everybody what they asked for.
func TestHoldUnderLoad(t *testing.T) {
	r := rig.New(t, "")
	r.App("http")
	configure(r, "http", 2, "hold: 30s\n")
	r.Rollout(0, "up")
	stop := visitors(t, r.Address)
	time.Sleep(time.Second)
	r.Must(0, "hold", "on")
	isOn := time.Now()
	time.Sleep(time.Second)
	off := time.Now()
	r.Must(0, "hold", "off")
	time.Sleep(time.Second)
	waited := 0
	for _, v := range stop() {
		if v.err != nil || v.status != 200 {
			t.Errorf("%d, %v, begun %v after on", v.status, v.err, v.began.Sub(isOn))
		}
		if v.began.After(isOn) && v.began.Before(off) {
			if v.ended.Before(off) {
				t.Errorf("answered while the traffic was held, %v after on", v.ended.Sub(isOn))
			}
			waited++
		}
	}
	if waited == 0 {
		t.Error("nobody waited")
	}
	t.Logf("%d waited", waited)
}
