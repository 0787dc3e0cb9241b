package edge

import (
	"bufio"
	"io"
	"net"
	"runtime"
	"strings"
	"testing"
	"time"
)

// A request on a kept connection allocates nothing, by either driver.
func TestKeptConnectionsAllocateNothing(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector allocates")
	}
	for name, loops := range map[string]int{"loop": 1, "goroutine": -1} {
		t.Run(name, func(t *testing.T) { allocatesNothing(t, loops) })
	}
}

func allocatesNothing(t *testing.T, loops int) {
	answer := []byte("HTTP/1.1 200 OK\r\nContent-Length: 1024\r\nConnection: keep-alive\r\n\r\n" + strings.Repeat("x", 1024))
	backend := raw(t, func(c net.Conn, br *bufio.Reader) {
		b := make([]byte, 4096)
		for {
			if _, err := c.Read(b); err != nil {
				return
			}
			c.Write(answer)
		}
	})
	r, _, addr := setup(t, Config{Loops: loops}, backend)
	r.apply(r.route(2, 0, map[string]float64{"v1": 0.5, "v2": 0.5}, map[string][]string{"v1": {backend}, "v2": {backend}}))
	c := connect(t, addr)
	request := []byte(get("/x", "User-Agent: test", "Accept: */*"))
	b := make([]byte, 4096)
	ask := func() {
		if _, err := c.Write(request); err != nil {
			t.Fatal(err)
		}
		for n := 0; n < 1024+len("HTTP/1.1 200 OK\r\nContent-Length: 1024\r\n\r\n"); {
			k, err := c.Read(b)
			if err != nil {
				t.Fatal(err)
			}
			n += k
		}
	}
	for range 100 {
		ask()
	}
	if n := allocsPerRun(2000, ask); n > 0 {
		t.Errorf("%v allocations per request", n)
	}
}

// Idle kept connections cost little: no buffer is held for them.
func TestIdleConnectionsAreSmall(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector takes memory")
	}
	_, _, addr := setup(t, Config{}, saying(t, "x"))
	const n = 500
	memory := func() uint64 {
		runtime.GC()
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return m.HeapInuse + m.StackInuse
	}
	before := memory()
	b := make([]byte, 1024)
	for range n {
		c := connect(t, addr)
		io.WriteString(c, get("/"))
		c.SetReadDeadline(time.Now().Add(5 * time.Second))
		if _, err := c.Read(b); err != nil {
			t.Fatal(err)
		}
	}
	// Includes the client's side of each connection.
	if per := (int64(memory()) - int64(before)) / n; per > 16<<10 {
		t.Errorf("%d bytes per idle connection", per)
	} else {
		t.Logf("%d bytes per idle connection, both sides", per)
	}
}

// allocsPerRun is testing.AllocsPerRun with as many processors as there are:
// a loop keeps one of them while it waits.
func allocsPerRun(runs int, f func()) float64 {
	f()
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	for range runs {
		f()
	}
	runtime.ReadMemStats(&after)
	return float64((after.Mallocs - before.Mallocs) / uint64(runs))
}
