package edge

import (
	"context"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"gapless"
)

// text is a codec for messages that are strings: these tests are about how
// calls travel.
type text struct{}

func (text) Marshal(v any) ([]byte, error)   { return []byte(*v.(*string)), nil }
func (text) Unmarshal(b []byte, v any) error { *v.(*string) = string(b); return nil }
func (text) Name() string                    { return "text" }

type greeter struct {
	name    string
	ended   chan error // of streams that waited for their client to leave
	entered chan struct{}
}

func (g *greeter) hello(ctx context.Context, in string) (*string, error) {
	md, _ := metadata.FromIncomingContext(ctx)
	grpc.SetHeader(ctx, metadata.Pairs("release", g.name))
	grpc.SetTrailer(ctx, metadata.Pairs("seen", strings.Join(md.Get("x-forwarded-for"), ","), "blob-bin", "\x00\xff"))
	switch in {
	case "bad":
		return nil, status.Error(codes.FailedPrecondition, "not änderbar, 100 %")
	case "slow":
		g.entered <- struct{}{}
		<-ctx.Done()
		g.ended <- ctx.Err()
		return nil, ctx.Err()
	}
	out := g.name + ":" + in
	return &out, nil
}

// stream answers each message; "many" with 100, "end" ends before the client does.
func (g *greeter) stream(s grpc.ServerStream) error {
	for n := 0; ; n++ {
		var in string
		switch err := s.RecvMsg(&in); {
		case err == io.EOF:
			s.SetTrailer(metadata.Pairs("count", fmt.Sprint(n)))
			return nil
		case err != nil:
			select {
			case g.ended <- err:
			default:
			}
			return err
		case in == "end":
			return status.Error(codes.ResourceExhausted, "enough")
		}
		times := 1
		if in == "many" {
			times = 100
		}
		for range times {
			out := g.name + ":" + in
			if err := s.SendMsg(&out); err != nil {
				return err
			}
		}
	}
}

func greets(t testing.TB, name, network, address string) (*greeter, *grpc.Server, string) {
	l, err := net.Listen(network, address)
	if err != nil {
		t.Fatal(err)
	}
	g := &greeter{name: name, ended: make(chan error, 8), entered: make(chan struct{}, 8)}
	s := grpc.NewServer(grpc.ForceServerCodec(text{}))
	s.RegisterService(&grpc.ServiceDesc{
		ServiceName: "shop.Greeter", HandlerType: (*any)(nil),
		Methods: []grpc.MethodDesc{{MethodName: "Hello", Handler: func(srv any, ctx context.Context, dec func(any) error, _ grpc.UnaryServerInterceptor) (any, error) {
			var in string
			if err := dec(&in); err != nil {
				return nil, err
			}
			return g.hello(ctx, in)
		}}},
		Streams: []grpc.StreamDesc{{StreamName: "Chat", ServerStreams: true, ClientStreams: true, Handler: func(_ any, s grpc.ServerStream) error { return g.stream(s) }}},
	}, g)
	go s.Serve(l)
	t.Cleanup(s.Stop)
	if network == "unix" {
		return g, s, "h2c:unix:" + address
	}
	return g, s, "h2c:" + l.Addr().String()
}

func calls(t testing.TB, addr string) *grpc.ClientConn {
	c, err := grpc.NewClient("passthrough:///"+addr, grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithDefaultCallOptions(grpc.ForceCodec(text{})), grpc.WithDisableRetry())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

func greet(ctx context.Context, c *grpc.ClientConn, in string, o ...grpc.CallOption) (string, error) {
	var out string
	err := c.Invoke(ctx, "/shop.Greeter/Hello", &in, &out, o...)
	return out, err
}

func chats(t testing.TB, ctx context.Context, c *grpc.ClientConn) grpc.ClientStream {
	s, err := c.NewStream(ctx, &grpc.StreamDesc{StreamName: "Chat", ServerStreams: true, ClientStreams: true}, "/shop.Greeter/Chat")
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func speak(t testing.TB, s grpc.ClientStream, in string) {
	t.Helper()
	if err := s.SendMsg(&in); err != nil {
		t.Fatal(err)
	}
}

func listens(t testing.TB, s grpc.ClientStream, want string) {
	t.Helper()
	var out string
	if err := s.RecvMsg(&out); err != nil || out != want {
		t.Fatalf("heard %q, %v; want %q", out, err, want)
	}
}

func TestGRPC(t *testing.T) {
	t.Parallel()
	for _, network := range []string{"tcp", "unix"} {
		t.Run(network, func(t *testing.T) {
			where := "127.0.0.1:0"
			if network == "unix" {
				where = t.TempDir() + "/a.sock"
			}
			g, _, target := greets(t, "v1", network, where)
			r, _, addr := setup(t, Config{}, target)
			c := calls(t, addr)
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()

			var head, tail metadata.MD
			out, err := greet(ctx, c, "you", grpc.Header(&head), grpc.Trailer(&tail))
			if err != nil || out != "v1:you" {
				t.Fatalf("%q %v", out, err)
			}
			if fmt.Sprint(head["release"], tail["seen"], tail["blob-bin"]) != "[v1] [127.0.0.1] [\x00\xff]" {
				t.Errorf("header %v, trailer %v", head, tail)
			}
			big := strings.Repeat("0123456789", 200_000)
			if out, err := greet(ctx, c, big); err != nil || out != "v1:"+big {
				t.Errorf("%d bytes, %v", len(out), err)
			}
			_, err = greet(ctx, c, "bad")
			if s := status.Convert(err); s.Code() != codes.FailedPrecondition || s.Message() != "not änderbar, 100 %" {
				t.Errorf("%v", err)
			}
			if _, err := c.NewStream(ctx, &grpc.StreamDesc{ClientStreams: true}, "/shop.Greeter/None"); err != nil {
				t.Error(err)
			}

			s := chats(t, ctx, c) // each message is answered before the next is sent: nothing waits for more
			for _, in := range []string{"a", "b", big, "c"} {
				speak(t, s, in)
				listens(t, s, "v1:"+in)
			}
			speak(t, s, "many")
			for range 100 {
				listens(t, s, "v1:many")
			}
			s.CloseSend()
			var over string
			if err := s.RecvMsg(&over); err != io.EOF || fmt.Sprint(s.Trailer()["count"]) != "[5]" {
				t.Errorf("%v, trailer %v", err, s.Trailer())
			}

			s = chats(t, ctx, c) // the server ends it while the client could say more
			speak(t, s, "a")
			listens(t, s, "v1:a")
			speak(t, s, "end")
			if err := s.RecvMsg(&over); status.Code(err) != codes.ResourceExhausted {
				t.Errorf("%v", err)
			}

			short, stop := context.WithTimeout(ctx, 200*time.Millisecond)
			_, err = greet(short, c, "slow")
			stop()
			if status.Code(err) != codes.DeadlineExceeded {
				t.Errorf("%v", err)
			}
			if err := <-g.ended; err == nil {
				t.Error("the server's call went on")
			}
			left, leave := context.WithCancel(ctx)
			s = chats(t, left, c)
			speak(t, s, "a")
			listens(t, s, "v1:a")
			leave()
			if err := <-g.ended; status.Code(err) != codes.Canceled {
				t.Errorf("the server heard %v", err)
			}
			eventually(t, "nothing in flight", func() bool { return r.instance("i1").InFlight == 0 })
			x := r.traffic("v1")
			if x.Failed != 0 || x.Status[5] != 0 {
				t.Errorf("%+v", x)
			}
		})
	}
}

// TestGRPCRolling replaces instances under load, as a deployment does: a
// server that knows no graceful stop loses nothing.
func TestGRPCRolling(t *testing.T) {
	t.Parallel()
	_, s, target := greets(t, "v1", "tcp", "127.0.0.1:0")
	r, _, addr := setup(t, Config{}, target)
	r.last.Routes[0].Targets[0].Instance = "i0"
	table := r.last
	table.Version++
	r.apply(table)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	var stop atomic.Bool
	var asked atomic.Int64
	var wg sync.WaitGroup
	for range 4 {
		c := calls(t, addr)
		for range 4 {
			wg.Go(func() {
				for !stop.Load() {
					if out, err := greet(ctx, c, "you"); err != nil || !strings.HasSuffix(out, ":you") {
						t.Errorf("lost: %q %v", out, err)
						return
					}
					asked.Add(1)
				}
			})
		}
	}
	for k := range 8 {
		n := asked.Load()
		eventually(t, "calls go on", func() bool { return asked.Load() > n+50 || t.Failed() })
		_, next, target := greets(t, fmt.Sprint("v", k+2), "tcp", "127.0.0.1:0")
		old := table.Routes[0].Targets[0]
		old.Draining, old.Drain = true, gapless.Duration(5*time.Second)
		table.Version++
		table.Routes = []gapless.Route{table.Routes[0]}
		table.Routes[0].Targets = []gapless.Target{old, {Instance: fmt.Sprint("i", k+1), Release: "v1", Address: target}}
		r.apply(table)
		eventually(t, "drained", func() bool { return r.instance(old.Instance).InFlight == 0 })
		s.Stop() // cuts whatever it has
		s = next
		table.Version++
		table.Routes = []gapless.Route{table.Routes[0]}
		table.Routes[0].Targets = table.Routes[0].Targets[1:]
		r.apply(table)
	}
	stop.Store(true)
	wg.Wait()
	if x := r.traffic("v1"); x.Failed != 0 {
		t.Errorf("%+v", x)
	}
	t.Logf("%d calls", asked.Load())
}

// A server that says GOAWAY when it has enough of a connection (max
// connection age) loses nothing either.
func TestGRPCGoAway(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var old atomic.Pointer[grpc.Server]
	_, s, _ := greets(t, "v1", "tcp", "127.0.0.1:0")
	old.Store(s)
	conns := make(chan net.Conn)
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				close(conns)
				return
			}
			conns <- c
		}
	}()
	var served atomic.Int64
	go func() { // each connection has a server of its own, which leaves gracefully after a while
		for c := range conns {
			served.Add(1)
			_, s, _ := greets(t, "v1", "tcp", "127.0.0.1:0")
			one := &single{conn: c, closed: make(chan struct{})}
			go s.Serve(one)
			time.AfterFunc(60*time.Millisecond, s.GracefulStop)
		}
	}()
	t.Cleanup(func() { l.Close() })
	r, _, addr := setup(t, Config{}, "h2c:"+l.Addr().String())
	c := calls(t, addr)
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for served.Load() < 10 && !t.Failed() {
				if out, err := greet(t.Context(), c, "you"); err != nil || out != "v1:you" {
					t.Errorf("lost: %q %v", out, err)
				}
			}
		})
	}
	wg.Wait()
	if x := r.traffic("v1"); x.Failed != 0 {
		t.Errorf("%+v", x)
	}
}
