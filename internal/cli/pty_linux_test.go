package cli

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
	"unicode/utf8"

	"golang.org/x/sys/unix"

	"gapless/internal/api"
)

// TestMain lets the test binary be the command that watches a rollout, so
// that it can have a terminal of its own.
func TestMain(m *testing.M) {
	if socket := os.Getenv("GAPLESS_TEST_WATCH"); socket != "" {
		ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
		c := &command{term: newTerm()}
		client := api.NewClient(socket)
		r, err := client.Rollout(ctx, "r1")
		if err == nil {
			err = c.watch(ctx, client, r, watchFlags{onInterrupt: os.Getenv("GAPLESS_TEST_INTERRUPT")})
		}
		stop()
		os.Exit(c.report(err))
	}
	if args := os.Getenv("GAPLESS_TEST_ARGS"); args != "" {
		os.Args = append(os.Args[:1], strings.Fields(args)...)
		os.Exit(Main())
	}
	os.Exit(m.Run())
}

// terminal is a pseudo terminal with a program in it, and what it wrote.
type terminal struct {
	t      *testing.T
	master *os.File
	cmd    *exec.Cmd
	width  int
	height int
	done   chan struct{} // closed when all of the output was read

	mu  sync.Mutex
	raw strings.Builder
}

// watchIn starts the watching command in a terminal of that size.
func watchIn(t *testing.T, s *fake, width, height int, env ...string) *terminal {
	t.Helper()
	return startIn(t, width, height, append([]string{"GAPLESS_TEST_WATCH=" + s.serve(t), "GAPLESS_TEST_INTERRUPT=detach"}, env...)...)
}

// runIn starts a command line in a terminal of that size.
func runIn(t *testing.T, s *fake, width, height int, args string, env ...string) *terminal {
	t.Helper()
	return startIn(t, width, height, append([]string{"GAPLESS_TEST_ARGS=" + args, "GAPLESS_HOME=" + s.home(t)}, env...)...)
}

// startIn starts this test binary in a terminal of that size.
func startIn(t *testing.T, width, height int, env ...string) *terminal {
	t.Helper()
	fd, err := unix.Open("/dev/ptmx", unix.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Skipf("no pseudo terminals here: %v", err)
	}
	if err := unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	n, err := unix.IoctlGetInt(fd, unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	slave, err := os.OpenFile("/dev/pts/"+strconv.Itoa(n), os.O_RDWR|syscall.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = slave.Close() }()
	x := &terminal{t: t, master: os.NewFile(uintptr(fd), "ptmx"), width: width, height: height, done: make(chan struct{})}
	x.resize(width, height)
	x.cmd = exec.Command(os.Args[0])
	x.cmd.Env = append([]string{"TERM=xterm-256color", "LANG=C.UTF-8"}, env...)
	x.cmd.Stdin, x.cmd.Stdout, x.cmd.Stderr = slave, slave, slave
	x.cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	if err := x.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		defer close(x.done)
		buf := make([]byte, 4096)
		for {
			n, err := x.master.Read(buf)
			x.mu.Lock()
			x.raw.Write(buf[:n])
			x.mu.Unlock()
			if err != nil { // EIO: nobody has the other end any more
				return
			}
		}
	}()
	t.Cleanup(func() {
		_ = x.cmd.Process.Kill()
		_ = x.master.Close()
	})
	return x
}

func (x *terminal) resize(width, height int) {
	x.width, x.height = width, height
	size := &unix.Winsize{Col: uint16(width), Row: uint16(height)}
	if err := unix.IoctlSetWinsize(int(x.master.Fd()), unix.TIOCSWINSZ, size); err != nil {
		x.t.Fatal(err)
	}
}

func (x *terminal) output() string {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.raw.String()
}

// shows waits until the screen holds a text.
func (x *terminal) shows(text string) {
	x.t.Helper()
	for end := time.Now().Add(10 * time.Second); !strings.Contains(x.screen(), text); {
		if time.Now().After(end) {
			x.t.Fatalf("%q did not show up in:\n%s", text, x.screen())
		}
		time.Sleep(10 * time.Millisecond)
	}
}

func (x *terminal) hit(keys string) {
	x.t.Helper()
	if _, err := io.WriteString(x.master, keys); err != nil {
		x.t.Fatal(err)
	}
}

// exit waits for the end and returns the exit code.
func (x *terminal) exit() int {
	x.t.Helper()
	timer := time.AfterFunc(20*time.Second, func() { _ = x.cmd.Process.Kill() })
	defer timer.Stop()
	_ = x.cmd.Wait()
	<-x.done
	return x.cmd.ProcessState.ExitCode()
}

// screen is what the terminal shows, all of it that scrolled away included.
func (x *terminal) screen() string {
	rows, err := emulate(x.output(), x.width, x.height)
	if err != nil {
		x.t.Error(err)
	}
	return strings.Join(rows, "\n")
}

// emulate is a terminal as far as the view uses one. It is strict: what it
// does not know, a line that is too wide, and a cursor that leaves the screen
// are errors.
func emulate(out string, width, height int) ([]string, error) {
	rows := [][]rune{nil}
	row, col := 0, 0
	var kept [][]rune // what the other buffer hides
	var keptRow, keptCol int
	for len(out) > 0 {
		if rest, ok := strings.CutPrefix(out, "\x1b["); ok {
			end := strings.IndexFunc(rest, func(r rune) bool { return r >= '@' && r <= '~' })
			if end < 0 {
				break // it comes with the next read
			}
			n, _ := strconv.Atoi(rest[:end])
			switch rest[end] {
			case 'm':
			case 'h', 'l':
				switch mode := rest[:end+1]; mode {
				case "?25h", "?25l":
				case "?1049h":
					kept, keptRow, keptCol = rows, row, col
					rows, row, col = [][]rune{nil}, 0, 0
				case "?1049l":
					rows, row, col, kept = kept, keptRow, keptCol, nil
				default:
					return nil, fmt.Errorf("unexpected mode %q", mode)
				}
			case 'H':
				row, col = 0, 0
			case 'K':
				rows[row] = rows[row][:min(col, len(rows[row]))]
			case 'A':
				if row -= max(1, n); row < 0 || len(rows)-row > height {
					return nil, fmt.Errorf("the cursor goes up %d lines and leaves the screen", n)
				}
			case 'J':
				rows = rows[:row+1]
				rows[row] = rows[row][:min(col, len(rows[row]))]
			default:
				return nil, fmt.Errorf("unexpected sequence %q", rest[:end+1])
			}
			out = rest[end+1:]
			continue
		}
		r, size := utf8.DecodeRuneInString(out)
		if r == utf8.RuneError && len(out) < 4 || out == "\x1b" {
			break
		}
		out = out[size:]
		switch {
		case r == '\r':
			col = 0
		case r == '\n':
			if row++; row == len(rows) {
				rows = append(rows, nil)
			}
			if kept != nil && row >= height {
				return nil, fmt.Errorf("a screen of %d rows scrolls", height)
			}
		case r < ' ':
			return nil, fmt.Errorf("unexpected control character %q", r)
		default:
			if col >= width {
				return nil, fmt.Errorf("a line is wider than %d: %q", width, string(rows[row]))
			}
			for len(rows[row]) <= col {
				rows[row] = append(rows[row], ' ')
			}
			rows[row][col] = r
			col++
		}
	}
	text := make([]string, len(rows))
	for i, r := range rows {
		text[i] = string(r)
	}
	return text, nil
}

// gone waits until the screen does not hold a text any more.
func (x *terminal) gone(text string) {
	x.t.Helper()
	for end := time.Now().Add(10 * time.Second); strings.Contains(x.screen(), text); {
		if time.Now().After(end) {
			x.t.Fatalf("%q is still in:\n%s", text, x.screen())
		}
		time.Sleep(10 * time.Millisecond)
	}
}
