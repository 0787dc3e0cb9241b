package edge

import (
	"bufio"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"

	"gapless"
)

// mortal is an instance that a request for /poison ends, with all its
// connections, as the end of a process would. It counts those that came.
func mortal(t *testing.T, poisoned *atomic.Int64) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var mu sync.Mutex
	open := map[net.Conn]bool{}
	die := func() {
		l.Close()
		mu.Lock()
		defer mu.Unlock()
		for c := range open {
			c.Close()
		}
	}
	t.Cleanup(die)
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			mu.Lock()
			open[c] = true
			mu.Unlock()
			go func() {
				for br := bufio.NewReader(c); ; {
					req, err := http.ReadRequest(br)
					if err != nil {
						c.Close()
						return
					}
					if req.URL.Path == "/poison" {
						poisoned.Add(1)
						die()
						return
					}
					if _, err := c.Write([]byte("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\ngood")); err != nil {
						return
					}
				}
			}()
		}
	}()
	return l.Addr().String()
}

// A request that ends the instance that reads it is repeated once: it is safe
// to repeat, and the instance may have ended by chance. A third one is not
// asked, whether the connections were kept ones or new, nor is it held until
// somebody is there again. The others serve on.
func TestADeadlyRequestEndsTwoInstancesAtMost(t *testing.T) {
	for _, warm := range []bool{false, true} {
		drivers(t, func(t *testing.T, cfg Config) {
			var poisoned atomic.Int64
			table := table1(2, "")
			table.Routes[0].Balance = gapless.Balance{NoEject: true, Retries: 1}
			table.Routes[0].Targets = nil
			for _, name := range []string{"a", "b", "c", "d"} {
				table.Routes[0].Targets = append(table.Routes[0].Targets, gapless.Target{Instance: name, Release: "v1", Address: mortal(t, &poisoned)})
			}
			r, _, addr := setup(t, cfg, saying(t, "first"))
			r.apply(table)
			if warm { // every instance has kept connections
				for range 80 {
					if status, body, _ := fetch(t, addr); status != 200 || body != "good" {
						t.Fatalf("%d %q", status, body)
					}
				}
			}
			res, err := http.Get("http://" + addr + "/poison")
			if err != nil {
				t.Fatal(err)
			}
			res.Body.Close()
			if n := poisoned.Load(); res.StatusCode != 502 || n != 2 {
				t.Errorf("warm %v: status %d, %d instances ended", warm, res.StatusCode, n)
			}
			for range 20 {
				if status, body, _ := fetch(t, addr); status != 200 || body != "good" {
					t.Errorf("warm %v, afterwards: %d %q", warm, status, body)
				}
			}
		})
	}
}
