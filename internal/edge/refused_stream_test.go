package edge

import (
	"bytes"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"gapless"
)

// refuser is an instance that speaks HTTP/2 frame by frame. It refuses the
// first stream; the others it answers with the number of the connection and
// what it was sent.
type refuser struct {
	leaves bool // it says GOAWAY as well
	mu     sync.Mutex
	conns  int
	asked  []string // connection and body of each stream
}

func (s *refuser) serve(c net.Conn) {
	defer c.Close()
	if _, err := io.ReadFull(c, make([]byte, len(http2.ClientPreface))); err != nil {
		return
	}
	s.mu.Lock()
	s.conns++
	number := s.conns
	s.mu.Unlock()
	fr := http2.NewFramer(c, c)
	fr.WriteSettings()
	bodies := map[uint32]string{}
	for {
		f, err := fr.ReadFrame()
		if err != nil {
			return
		}
		id, ended := f.Header().StreamID, false
		switch f := f.(type) {
		case *http2.SettingsFrame:
			if !f.IsAck() {
				fr.WriteSettingsAck()
			}
		case *http2.PingFrame:
			if !f.IsAck() {
				fr.WritePing(true, f.Data)
			}
		case *http2.HeadersFrame:
			ended = f.StreamEnded()
		case *http2.DataFrame:
			bodies[id] += string(f.Data())
			ended = f.StreamEnded()
		}
		if !ended {
			continue
		}
		s.mu.Lock()
		s.asked = append(s.asked, fmt.Sprint(number, " ", bodies[id]))
		first := len(s.asked) == 1
		s.mu.Unlock()
		if first {
			if s.leaves {
				fr.WriteGoAway(0, http2.ErrCodeNo, nil)
			}
			fr.WriteRSTStream(id, http2.ErrCodeRefusedStream)
			continue
		}
		var head bytes.Buffer
		hpack.NewEncoder(&head).WriteField(hpack.HeaderField{Name: ":status", Value: "200"})
		fr.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: head.Bytes(), EndHeaders: true})
		fr.WriteData(id, true, fmt.Append(nil, number, " ", bodies[id]))
	}
}

// A request whose stream was refused is asked once more, with its body, also
// one that must not be repeated: the instance has said that it did nothing
// with it. Where it leaves as well, on a new connection. Nobody notices.
func TestRefusedStreamsAreAskedOnceMore(t *testing.T) {
	t.Parallel()
	a := newAuthority(t)
	cert, key, _ := a.write(t.TempDir(), "shop", "shop.test")
	pair, err := tls.LoadX509KeyPair(cert, key)
	if err != nil {
		t.Fatal(err)
	}
	for _, protocol := range []string{"h2c", "h2"} {
		for _, leaves := range []bool{false, true} {
			for _, method := range []string{"GET", "POST"} {
				t.Run(fmt.Sprint(protocol, " ", method, " leaves ", leaves), func(t *testing.T) {
					l, err := net.Listen("tcp", "127.0.0.1:0")
					if err != nil {
						t.Fatal(err)
					}
					address := protocol + ":" + l.Addr().String()
					if protocol == "h2" {
						l = tls.NewListener(l, &tls.Config{Certificates: []tls.Certificate{pair}, NextProtos: []string{"h2"}})
					}
					t.Cleanup(func() { l.Close() })
					s := &refuser{leaves: leaves}
					go func() {
						for c, err := l.Accept(); err == nil; c, err = l.Accept() {
							go s.serve(c)
						}
					}()
					h := newHost(t, "web")
					r := start(t, Config{Host: h})
					table := table1(1, address)
					table.Routes[0].UpstreamTLS = &gapless.UpstreamTLS{Insecure: true}
					r.apply(table)
					body := ""
					if method == "POST" {
						body = "body"
					}
					number := 1
					if leaves {
						number = 2
					}
					q, _ := http.NewRequest(method, "http://"+h.addr("web")+"/", strings.NewReader(body))
					res, err := http.DefaultClient.Do(q)
					if err != nil {
						t.Fatal(err)
					}
					got, err := io.ReadAll(res.Body)
					res.Body.Close()
					if want := fmt.Sprint(number, " ", body); err != nil || res.StatusCode != 200 || string(got) != want {
						t.Errorf("%d %q %v, want %q", res.StatusCode, got, err, want)
					}
					s.mu.Lock()
					defer s.mu.Unlock()
					if want := fmt.Sprint([]string{"1 " + body, fmt.Sprint(number, " ", body)}); fmt.Sprint(s.asked) != want || s.conns != number {
						t.Errorf("%d connections, asked %q, want %q", s.conns, s.asked, want)
					}
					if x := r.traffic("v1"); x.Requests != 1 || x.Failed != 0 || x.Retried != 0 || x.Status[2] != 1 {
						t.Errorf("%+v", x)
					}
				})
			}
		}
	}
}
