package edge

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"
)

// fewDescriptors says that this process is the edge of the test below, and
// where its instance is.
const fewDescriptors = "GAPLESS_TEST_FEW_DESCRIPTORS"

// An edge that may not have many descriptors neither dies nor spins when more
// clients come than it can serve.
func TestFewDescriptors(t *testing.T) {
	if address := os.Getenv(fewDescriptors); address != "" {
		serveWithFewDescriptors(t, address)
		return
	}
	cmd := exec.Command(os.Args[0], "-test.run=^TestFewDescriptors$", "-test.v")
	cmd.Env = append(os.Environ(), fewDescriptors+"="+saying(t, "x"))
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		in.Close()
		if err := cmd.Wait(); err != nil {
			t.Errorf("the edge: %v", err)
		}
	}()
	lines := bufio.NewScanner(out)
	addr := ""
	for addr == "" && lines.Scan() {
		addr, _ = strings.CutPrefix(lines.Text(), "serves ")
		if addr == lines.Text() {
			addr = ""
		}
	}
	if addr == "" {
		t.Fatal("the edge does not serve")
	}
	go io.Copy(io.Discard, out)

	kept := connect(t, addr)
	br := bufio.NewReader(kept)
	if code, _ := ask(kept, br, get("/")); code != 200 {
		t.Fatal(code)
	}
	var storm []net.Conn
	for n := range 600 {
		if c, err := net.DialTimeout("tcp", addr, 5*time.Second); err == nil {
			io.WriteString(c, "GET / HT")
			storm = append(storm, c)
		} else if !errors.Is(err, syscall.ECONNRESET) { // refused so quickly that it never was
			t.Fatal(err)
		}
		if n%10 == 0 {
			if code, body := ask(kept, br, get("/")); code != 200 {
				t.Fatalf("a kept connection, with %d others: %d %q", len(storm), code, body)
			}
		}
	}
	for _, c := range storm {
		c.Close()
	}
	eventually(t, "new connections are served again", func() bool {
		c, err := net.Dial("tcp", addr)
		if err != nil {
			return false
		}
		defer c.Close()
		code, _ := ask(c, bufio.NewReader(c), get("/"))
		return code == 200
	})
}

func serveWithFewDescriptors(t *testing.T, address string) {
	if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &syscall.Rlimit{Cur: 256, Max: 256}); err != nil {
		t.Fatal(err)
	}
	h := newHost(t, "web")
	cfg := Config{Host: h}
	if os.Geteuid() == 0 { // who may raise the limit would
		cfg.MaxConnections = connectionsBelow(256, 50000)
	}
	r := start(t, cfg)
	r.apply(table1(1, address))
	fmt.Println("serves " + h.addr("web"))
	io.Copy(io.Discard, os.Stdin)
}
