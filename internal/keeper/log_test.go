//go:build linux

package keeper

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"gapless/internal/rotate"
)

// read collects what ReadLogs yields.
func read(t *testing.T, path string, opt ReadOptions) (lines []Line) {
	t.Helper()
	for l, err := range ReadLogs(t.Context(), path, opt) {
		if err != nil {
			t.Fatal(err)
		}
		lines = append(lines, l)
	}
	return lines
}

func texts(lines []Line) (s []string) {
	for _, l := range lines {
		s = append(s, l.Text)
	}
	return s
}

func TestLinesAreStampedAndSafe(t *testing.T) {
	r := start(t)
	path := filepath.Join(r.dir, "deep", "er", "app.log")
	before := time.Now().Truncate(time.Millisecond)
	r.run("i", &Log{Path: path, Label: "v3/1"}, "/bin/sh", "-c",
		`echo plain; printf 'bell\007 esc\033[31m tab\t cr\r\n'; printf 'caf\303\251 bad\377 c1\302\233\n\n'; echo oops >&2; sleep 0.1; printf 'no end'`)
	r.exit("i")
	lines := read(t, path, ReadOptions{Lines: -1})
	var out, errs []string
	for _, l := range lines {
		if l.Label != "v3/1" || l.Time.Before(before) || l.Time.After(time.Now()) {
			t.Errorf("line %+v", l)
		}
		if l.Stream == "out" {
			out = append(out, l.Text)
		} else {
			errs = append(errs, l.Text)
		}
	}
	want := []string{"plain", `bell\x07 esc\x1b[31m` + " tab\t cr", `café bad\xff c1\xc2\x9b`, "", "no end"}
	if !slices.Equal(out, want) {
		t.Errorf("out %q\nwant %q", out, want)
	}
	if !slices.Equal(errs, []string{"oops"}) {
		t.Errorf("err %q", errs)
	}
	raw, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(raw), "Z v3/1 out plain\n") || strings.Contains(string(raw), "hush-hush") {
		t.Errorf("file:\n%s", raw)
	}
	for i, l := range strings.Split(strings.TrimSuffix(string(raw), "\n"), "\n") {
		if l != lines[i].String() {
			t.Errorf("line %q reads back as %q", l, lines[i])
		}
	}
}

func TestLongLinesAreSplit(t *testing.T) {
	r := start(t)
	path := filepath.Join(r.dir, "app.log")
	r.run("i", &Log{Path: path, Label: "l"}, "/bin/sh", "-c",
		`head -c 65536 /dev/zero | tr '\0' a; echo; head -c 65537 /dev/zero | tr '\0' b; echo; yes é | tr -d '\n' | head -c 200000; echo; echo end`)
	r.exit("i")
	lines := texts(read(t, path, ReadOptions{Lines: -1}))
	if len(lines) != 3+4+1 {
		t.Fatalf("%d lines", len(lines))
	}
	if len(lines[0]) != maxText || len(lines[1]) != maxText || lines[2] != "b" || lines[7] != "end" {
		t.Errorf("lengths %d %d %q %q", len(lines[0]), len(lines[1]), lines[2], lines[7])
	}
	if s := strings.Join(lines[3:7], ""); s != strings.Repeat("é", 100000) {
		t.Errorf("characters are torn: %d bytes", len(s))
	}
	// The last lines are found from the end just as well.
	if got := texts(read(t, path, ReadOptions{Lines: 3})); !slices.Equal(got, lines[5:]) {
		t.Errorf("last three: lengths %d", len(got))
	}
}

// numbered checks that each label's lines are 0…n-1, in order.
func numbered(t *testing.T, lines []Line, labels, n int) {
	t.Helper()
	next := map[string]int{}
	for _, l := range lines {
		i, err := strconv.Atoi(l.Text[:min(6, len(l.Text))])
		if err != nil || i != next[l.Label] {
			t.Fatalf("%s: got %.20q, want line %d", l.Label, l.Text, next[l.Label])
		}
		next[l.Label]++
	}
	if len(next) != labels {
		t.Fatalf("%d labels, want %d", len(next), labels)
	}
	for label, got := range next {
		if got != n {
			t.Errorf("%s: %d lines, want %d", label, got, n)
		}
	}
}

// Since ends the look back at the first line that is older.
func TestReadSince(t *testing.T) {
	path := filepath.Join(t.TempDir(), "app.log")
	begin := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	text := ""
	for i := range 10 {
		text += Line{Time: begin.Add(time.Duration(i) * time.Second), Label: "v1/1", Stream: "out", Text: strconv.Itoa(i)}.String() + "\n"
	}
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		since time.Duration
		lines int
		want  []string
	}{
		{7 * time.Second, 100, []string{"7", "8", "9"}},
		{7 * time.Second, 2, []string{"8", "9"}},
		{time.Minute, 100, nil},
		{-time.Minute, 3, []string{"7", "8", "9"}},
	} {
		if got := texts(read(t, path, ReadOptions{Lines: c.lines, Since: begin.Add(c.since)})); !slices.Equal(got, c.want) {
			t.Errorf("since %s, %d lines: %q, want %q", c.since, c.lines, got, c.want)
		}
	}
}

func TestNothingIsLostAtRotation(t *testing.T) {
	r := start(t)
	path := filepath.Join(r.dir, "app.log")
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	const procs, n = 4, 3000
	followed := make(chan []Line)
	go func() { // starts before the file is there, goes on across all rotations
		var lines []Line
		for l, err := range ReadLogs(ctx, path, ReadOptions{Lines: -1, Follow: true}) {
			if err != nil {
				t.Error(err)
			}
			if lines = append(lines, l); len(lines) == procs*n {
				break
			}
		}
		followed <- lines
	}()
	for i := range procs {
		r.run(fmt.Sprint("p", i), &Log{Path: path, Label: fmt.Sprint("v1/", i), MaxSize: 32 << 10, Keep: 1000},
			self(t), "role:lines", strconv.Itoa(n), "80")
	}
	for i := range procs {
		if p := r.exit(fmt.Sprint("p", i)); p.Exit.Code != 0 || p.DroppedLines != 0 {
			t.Errorf("%+v", p)
		}
	}
	rotated, err := rotate.Files(path)
	if err != nil || len(rotated) < 30 {
		t.Fatalf("%d rotations, %v", len(rotated), err)
	}
	for _, name := range append(rotated, path) {
		b, err := os.ReadFile(name)
		if err != nil || len(b) > 32<<10 || len(b) > 0 && b[len(b)-1] != '\n' {
			t.Errorf("%s: %d bytes, %v", name, len(b), err)
		}
	}
	all := read(t, path, ReadOptions{Lines: -1})
	numbered(t, all, procs, n)
	select {
	case lines := <-followed:
		numbered(t, lines, procs, n)
	case <-time.After(10 * time.Second):
		t.Fatal("the follower did not see all lines")
	}
	// The last n, over several files, with and without a filter.
	if got := read(t, path, ReadOptions{Lines: 1000}); !slices.Equal(got, all[len(all)-1000:]) {
		t.Errorf("last 1000: %d", len(got))
	}
	only := func(l Line) bool { return l.Label == "v1/2" }
	got := read(t, path, ReadOptions{Lines: 2990, Filter: only})
	if len(got) != 2990 || !strings.HasPrefix(got[0].Text, "000010 ") || slices.ContainsFunc(got, func(l Line) bool { return !only(l) }) {
		t.Errorf("last 2990 of one: %d", len(got))
	}
	if got := read(t, path, ReadOptions{}); len(got) != 0 {
		t.Errorf("last 0: %d", len(got))
	}
	t.Logf("%d lines over %d rotations", len(all), len(rotated))
}

func TestDiskIsBounded(t *testing.T) {
	r := start(t)
	path := filepath.Join(r.dir, "app.log")
	// A neighbour whose name begins the same is left alone.
	neighbour := rotate.Path(filepath.Join(r.dir, "app-worker.log"), time.Unix(0, 0))
	if err := os.WriteFile(neighbour, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	r.run("p", &Log{Path: path, Label: "l", MaxSize: 10 << 10, Keep: 3}, self(t), "role:lines", "3000", "80")
	r.exit("p")
	rotated, err := rotate.Files(path)
	if err != nil || len(rotated) != 3 {
		t.Fatalf("%v %v", rotated, err)
	}
	total := int64(0)
	for _, name := range append(rotated, path) {
		fi, err := os.Stat(name)
		if err != nil {
			t.Fatal(err)
		}
		total += fi.Size()
	}
	if total > 40<<10 {
		t.Errorf("%d bytes on disk", total)
	}
	last := texts(read(t, path, ReadOptions{Lines: 1}))
	if len(last) != 1 || !strings.HasPrefix(last[0], "002999") {
		t.Errorf("last line %q", last)
	}
	if _, err := os.Stat(neighbour); err != nil {
		t.Error(err)
	}
}

// TestOwnProcessesAreBounded lets the daemon say much, again and again, into
// the file that keeper itself logs to.
func TestOwnProcessesAreBounded(t *testing.T) {
	const most = 200 << 10
	path := ""
	r := startIn(t, func(dir string) Config {
		path = filepath.Join(dir, "gapless.log")
		to := func(label string) *Log { return &Log{Path: path, Label: label, MaxSize: most, Keep: 1} }
		return Config{LogTo: to("keeper"), Children: []Child{
			{Name: DaemonChild, Argv: []string{self(t), "role:lines", "3000", "80"}, Log: to("daemon")}}}
	})
	lives := map[int]bool{}
	eventually(t, "three lives of the daemon", func() bool {
		procs, err := r.List(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for _, p := range procs {
			lives[p.PID] = true
		}
		return len(lives) > 3
	})
	eventually(t, "keeper's own remark in the file", func() bool {
		for _, l := range read(t, path, ReadOptions{Lines: 1 << 20}) {
			if l.Label == "keeper" && l.Stream == "err" && strings.Contains(l.Text, `msg="child ended, starts again" child=daemon`) && !strings.Contains(l.Text, "time=") {
				return true
			}
		}
		return false
	})
	rotated, err := rotate.Files(path)
	if err != nil || len(rotated) == 0 || len(rotated) > 2 { // the older one may just be going
		t.Fatalf("%v %v", rotated, err)
	}
	for _, name := range append(rotated, path) {
		if fi, err := os.Stat(name); err == nil && fi.Size() > most {
			t.Errorf("%s has %d bytes", name, fi.Size())
		}
	}
	if text, err := os.ReadFile(r.log); err != nil || len(text) > 0 {
		t.Errorf("%v: on stderr:\n%s", err, text)
	}
}

// TestOwnLogOnFullDisk: keeper's remark that a file cannot be written goes
// into a file that cannot be written. Nothing waits for it.
func TestOwnLogOnFullDisk(t *testing.T) {
	files := &logFiles{files: map[string]*logFile{}}
	files.log = files.ownLog(Log{Path: "/dev/full", Label: "keeper"}, &buffers{})
	other := files.open(Log{Path: filepath.Join("/dev/full", "x"), Label: "l"})
	done := make(chan struct{})
	go func() {
		defer close(done)
		for range 3 {
			files.log.Warn("it is full")
			other.write(&buffers{}, "l", "out", []byte("line\n"), true)
		}
		other.close()
		files.files["/dev/full"].close()
	}()
	select {
	case <-done:
	case <-time.After(20 * time.Second):
		t.Fatal("a full disk holds keeper up")
	}
}

func TestRotationByAge(t *testing.T) {
	r := start(t)
	path := filepath.Join(r.dir, "app.log")
	old := stamp(time.Now().Add(-25*time.Hour)) + " v0/1 out yesterday\n" + stamp(time.Now()) + " v0/1 out half a li"
	if err := os.WriteFile(path, []byte(old), 0o600); err != nil {
		t.Fatal(err)
	}
	r.run("p", &Log{Path: path, Label: "l", MaxAge: 24 * time.Hour, Keep: 3}, "/bin/sh", "-c", "echo today; echo more")
	r.exit("p")
	b, err := os.ReadFile(path)
	if err != nil || strings.Count(string(b), "\n") != 2 || !strings.Contains(string(b), "today") {
		t.Errorf("current file %q %v", b, err)
	}
	if got := texts(read(t, path, ReadOptions{Lines: -1})); !slices.Equal(got, []string{"yesterday", "half a li", "today", "more"}) {
		t.Errorf("all %q", got)
	}
}

func TestRemovedFileIsMadeAgain(t *testing.T) {
	r := start(t)
	path := filepath.Join(r.dir, "app.log")
	r.run("p", &Log{Path: path, Label: "l"}, "/bin/sh", "-c", "while :; do echo x; sleep 0.05; done")
	eventually(t, "lines come", func() bool { _, err := os.Stat(path); return err == nil })
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	eventually(t, "lines come again", func() bool { fi, err := os.Stat(path); return err == nil && fi.Size() > 0 })
}

func TestLastWordsComeBeforeTheExit(t *testing.T) {
	r := start(t)
	events, err := r.Watch(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var late []time.Duration
	for i := range 20 {
		id := fmt.Sprint("w", i)
		path := filepath.Join(r.dir, id+".log")
		// Someone else keeps the pipe open.
		r.run(id, &Log{Path: path, Label: "l"}, "/bin/sh", "-c", "sleep 1000 & echo dying >&2; printf unfinished >&2; exit 1")
		for p := range events {
			if p.ID != id || p.Running {
				continue
			}
			late = append(late, time.Since(p.Exit.At))
			break
		}
		if got := texts(read(t, path, ReadOptions{Lines: 2})); !slices.Equal(got, []string{"dying", "unfinished"}) {
			t.Fatalf("log at the exit: %q", got)
		}
		if err := r.Forget(t.Context(), id); err != nil {
			t.Fatal(err)
		}
	}
	// The pipe is not waited for until the limit, 250 ms, when it is empty
	// before. A busy machine may be late for some of them, not for all.
	slices.Sort(late)
	if late[4] > 200*time.Millisecond {
		t.Errorf("told so long after the exits: %v", late)
	}
}

// descriptors lists keeper's open files.
func (r *rig) descriptors() (open []string) {
	names, _ := filepath.Glob(fmt.Sprintf("/proc/%d/fd/*", r.cmd.Process.Pid))
	for _, name := range names {
		if to, err := os.Readlink(name); err == nil {
			open = append(open, to)
		}
	}
	return open
}

// TestPipesDoNotLeak starts and ends processes. What keeper may keep of them is
// the pairs of pipes that it peeks with: one for each stream that ever ended at
// the same moment as others, at most maxPeekers.
func TestPipesDoNotLeak(t *testing.T) {
	r := start(t)
	pipes := func() (n int) {
		for _, name := range r.descriptors() {
			if strings.HasPrefix(name, "pipe:") {
				n++
			}
		}
		return n
	}
	given := pipes() // whoever runs the tests may have left some open
	log := &Log{Path: filepath.Join(r.dir, "app.log"), Label: "l"}
	r.run("first", log, "/bin/echo", "hello") // what keeper itself needs for reading is there then
	r.exit("first")
	if err := r.Forget(t.Context(), "first"); err != nil {
		t.Fatal(err)
	}
	eventually(t, "its pipes are closed", func() bool { return pipes() <= given+2*maxPeekers })
	before := r.descriptors()
	others := len(before) - pipes()
	for i := range 20 {
		id := fmt.Sprint("p", i)
		r.run(id, log, "/bin/sh", "-c", "(setsid env -i sleep 1000 &); sleep 1000 & exit 0") // one escapes for good
		r.exit(id)
		if err := r.Forget(t.Context(), id); err != nil {
			t.Fatal(err)
		}
		r.Start(t.Context(), Spec{ID: "no", Argv: []string{"/no/such"}, Log: log})
	}
	var now []string
	defer func() {
		if t.Failed() {
			t.Logf("before %q\nnow %q", before, now)
		}
	}()
	eventually(t, "every pipe is closed", func() bool {
		now = r.descriptors()
		open := pipes()
		return open <= given+2*maxPeekers && len(now)-open <= others
	})
}

// smallDisk mounts a file system of its own for the test.
func smallDisk(t *testing.T, size string) string {
	t.Helper()
	dir := t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size="+size); err != nil {
		t.Skipf("cannot mount a small disk (needs root): %v", err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, 0); err != nil {
			unix.Unmount(dir, unix.MNT_DETACH)
		}
	})
	return dir
}

func TestFullDiskHurtsNobody(t *testing.T) {
	disk := smallDisk(t, "128k")
	r := start(t)
	path := filepath.Join(disk, "app.log")
	addr := freeAddr(t)
	r.run("web", &Log{Path: path, Label: "v1/1", MaxSize: 1 << 20, Keep: 2}, self(t), "role:serve", addr)
	get := func(path string) {
		t.Helper()
		c := http.Client{Timeout: 5 * time.Second}
		resp, err := c.Get("http://" + addr + path)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		if b, err := io.ReadAll(resp.Body); string(b) != "ok" || err != nil {
			t.Fatalf("%q %v", b, err)
		}
	}
	eventually(t, "the app serves", func() bool {
		resp, err := http.Get("http://" + addr + "/first")
		return err == nil && resp.Body.Close() == nil
	})
	filler := filepath.Join(disk, "filler")
	if err := os.WriteFile(filler, make([]byte, 100<<10), 0o600); err != nil {
		t.Logf("filled: %v", err)
	}
	// Far more output than disk and pipe can hold: the app must never wait.
	for i := range 300 {
		get(fmt.Sprint("/", i))
	}
	eventually(t, "lines are dropped and counted", func() bool { return r.proc("web").DroppedLines > 100 })
	b, err := os.ReadFile(path)
	if err != nil || len(b) > 0 && b[len(b)-1] != '\n' {
		t.Errorf("a line is torn: %v …%q", err, b[max(0, len(b)-20):])
	}
	if err := os.Remove(filler); err != nil {
		t.Fatal(err)
	}
	// Told although the app is quiet: all that was dropped, in one line or in
	// several if there was room for a moment.
	var told uint64
	eventually(t, "the loss is noted", func() bool {
		told = 0
		for _, l := range read(t, path, ReadOptions{Lines: -1, Filter: func(l Line) bool { return l.Label == "gapless" }}) {
			var n uint64
			if _, err := fmt.Sscanf(l.Text, "dropped %d lines (no space left on device)", &n); err != nil {
				t.Fatalf("noted %q", l.Text)
			}
			told += n
		}
		return told > 0 && told == r.proc("web").DroppedLines
	})
	get("/after")
	eventually(t, "lines are written again", func() bool {
		last := texts(read(t, path, ReadOptions{Lines: 1, Filter: func(l Line) bool { return l.Label == "v1/1" }}))
		return len(last) == 1 && strings.HasPrefix(last[0], "request /after ")
	})
	// What arrived and what was counted is all there ever was.
	lines := read(t, path, ReadOptions{Lines: -1, Filter: func(l Line) bool { return strings.HasPrefix(l.Text, "request /") }})
	total := uint64(len(lines)) + r.proc("web").DroppedLines
	if total < 302 || !r.proc("web").Running {
		t.Errorf("%d lines of at least 302", total)
	}
	t.Logf("%d lines arrived, %d were dropped and counted", len(lines), r.proc("web").DroppedLines)
}

func TestSlowReaderHoldsNobody(t *testing.T) {
	r := start(t)
	path := filepath.Join(r.dir, "app.log")
	log := &Log{Path: path, Label: "l", MaxSize: 16 << 10, Keep: 2}
	r.run("first", log, "/bin/echo", "hello")
	r.exit("first")
	for l, err := range ReadLogs(t.Context(), path, ReadOptions{Lines: 1, Follow: true}) {
		if err != nil || l.Text != "hello" {
			t.Fatalf("%+v %v", l, err)
		}
		// The reader sits here while everything behind it is written,
		// rotated and deleted.
		r.run("p", log, self(t), "role:lines", "3000", "80")
		if p := r.exit("p"); p.Exit.Code != 0 || p.DroppedLines != 0 {
			t.Errorf("%+v", p)
		}
		break
	}
	// And one that is that slow goes on with what is still there.
	r.run("again", log, "/bin/echo", "again")
	n := 0
	for l, err := range ReadLogs(t.Context(), path, ReadOptions{Lines: 1, Follow: true}) {
		if err != nil {
			t.Fatal(err)
		}
		if n++; n == 1 {
			r.run("q", log, self(t), "role:lines", "3000", "80")
			r.exit("q")
		}
		if strings.HasPrefix(l.Text, "002999 ") && n > 1 {
			break
		}
	}
	if n < 100 {
		t.Errorf("only %d lines", n)
	}
}

func TestNodeLogsThroughKeeper(t *testing.T) {
	node, err := exec.LookPath("node")
	if err != nil {
		t.Skip("no node here")
	}
	r := start(t)
	path := filepath.Join(r.dir, "app.log")
	r.run("n", &Log{Path: path, Label: "v1/1"}, node, "-e",
		`for (let i = 0; i < 2000; i++) console.log(String(i).padStart(6, "0"), "x".repeat(100)); console.error("bye"); process.exitCode = 3`) // process.exit would make Node itself drop what does not fit into the pipe
	p := r.exit("n")
	if p.Exit.Code != 3 {
		t.Errorf("exit %v", p.Exit)
	}
	numbered(t, read(t, path, ReadOptions{Lines: -1, Filter: func(l Line) bool { return l.Stream == "out" }}), 1, 2000)
	if got := texts(read(t, path, ReadOptions{Lines: 1, Filter: func(l Line) bool { return l.Stream == "err" }})); !slices.Equal(got, []string{"bye"}) {
		t.Errorf("stderr %q", got)
	}
}

// cgroup makes a control group for the test.
func cgroup(t *testing.T, parent string) string {
	t.Helper()
	dir, err := os.MkdirTemp(parent, "keeper-test")
	if err != nil {
		t.Skipf("no control group can be made here: %v", err)
	}
	t.Cleanup(func() {
		eventually(t, "the group is empty", func() bool { return os.Remove(dir) == nil })
	})
	return dir
}

func TestOutOfMemoryIsSeen(t *testing.T) {
	dir := cgroup(t, "/sys/fs/cgroup/memory")
	if err := os.WriteFile(filepath.Join(dir, "memory.limit_in_bytes"), []byte("33554432"), 0); err != nil {
		t.Skipf("no memory limit here: %v", err)
	}
	r := start(t)
	for _, c := range []struct {
		id   string
		argv []string
		oom  bool
	}{
		{"eats", []string{self(t), "role:eat"}, true},
		{"killed", []string{"/bin/sh", "-c", "kill -KILL $$"}, false},
	} {
		if _, err := r.Start(t.Context(), Spec{ID: c.id, Argv: c.argv, Cgroups: []string{dir}}); err != nil {
			t.Fatal(err)
		}
		if p := r.exit(c.id); p.Exit.Signal != "SIGKILL" || p.Exit.OOM != c.oom {
			t.Errorf("%s: %+v", c.id, p.Exit)
		}
	}
}

func TestProcessesAreBornInTheirGroups(t *testing.T) {
	one := cgroup(t, "/sys/fs/cgroup/cpu")
	two := cgroup(t, "/sys/fs/cgroup/unified")
	r := start(t)
	out := filepath.Join(r.dir, "groups")
	// The first thing that it does shows that there was no moment outside.
	_, err := r.Start(t.Context(), Spec{ID: "i", Cgroups: []string{one, two}, OOMScoreAdj: 321,
		Argv: []string{"/bin/sh", "-c", "cat /proc/self/cgroup >" + out + "; sleep 0.1; cat /proc/self/oom_score_adj >>" + out}})
	if err != nil {
		t.Fatal(err)
	}
	if p := r.exit("i"); p.Exit.Code != 0 {
		t.Fatal(p.Exit)
	}
	b, err := os.ReadFile(out)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{":cpu:/" + filepath.Base(one) + "\n", "0::/" + filepath.Base(two) + "\n", "\n321\n"} {
		if !strings.Contains(string(b), want) {
			t.Errorf("%q is missing:\n%s", want, b)
		}
	}
	for task := range strings.FieldsSeq(taskGroups(r.cmd.Process.Pid)) {
		if strings.Contains(task, "keeper-test") {
			t.Errorf("a thread of keeper stays in the group: %s", task)
		}
	}
}

// taskGroups returns the control groups of every thread of a process.
func taskGroups(pid int) string {
	var b strings.Builder
	names, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/cgroup", pid))
	for _, name := range names {
		text, _ := os.ReadFile(name)
		b.Write(text)
	}
	return b.String()
}

func TestRunAsUser(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root")
	}
	r := start(t)
	path := filepath.Join(r.dir, "app.log")
	uid, gid := uint32(65534), uint32(65533)
	if _, err := r.Start(t.Context(), Spec{ID: "n", UID: &uid, GID: &gid, Groups: []uint32{65532}, Log: &Log{Path: path, Label: "l"},
		Argv: []string{"/bin/sh", "-c", "grep -E '^(Uid|Gid|Groups)' /proc/self/status; exec sleep 1000"}}); err != nil {
		t.Fatal(err)
	}
	eventually(t, "it prints who it is", func() bool { return len(read(t, path, ReadOptions{Lines: 3})) == 3 })
	got := strings.Join(texts(read(t, path, ReadOptions{Lines: 3})), "\n")
	if strings.Count(got, "65534") != 4 || strings.Count(got, "65533") != 4 || strings.Count(got, "65532") != 1 {
		t.Errorf("runs as\n%s", got)
	}
	if err := r.Signal(t.Context(), "n", syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if p := r.exit("n"); p.Exit.Signal != "SIGTERM" {
		t.Error(p.Exit)
	}
}

func TestIdleMemory(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector needs memory of its own")
	}
	exe := self(t)
	r := start(t, Child{Name: DaemonChild, Argv: []string{exe, "role:wait"}}, Child{Name: EdgeChild, Argv: []string{exe, "role:wait"}})
	t.Logf("anonymous memory with daemon and edge: %d kB", r.anonymous())
	for i := range 16 {
		id := fmt.Sprint("p", i)
		// Each was busy once.
		r.run(id, &Log{Path: filepath.Join(r.dir, "app.log"), Label: id, MaxSize: 1 << 20, Keep: 1},
			"/bin/sh", "-c", exe+" role:lines 2000 200; exec sleep 1000")
	}
	eventually(t, "all was written", func() bool {
		return len(read(t, filepath.Join(r.dir, "app.log"), ReadOptions{Lines: 1})) == 1 && len(r.marks("p15")) == 1
	})
	time.Sleep(500 * time.Millisecond)
	kb := r.anonymous()
	t.Logf("and with 16 instances that had printed 32000 lines: %d kB", kb)
	if kb > 8<<10 {
		t.Errorf("%d kB of anonymous memory, at most 8192 are allowed", kb)
	}
}

func (r *rig) anonymous() int {
	r.t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/smaps_rollup", r.cmd.Process.Pid))
	if err != nil {
		r.t.Fatal(err)
	}
	for l := range strings.Lines(string(b)) {
		if f := strings.Fields(l); f[0] == "Anonymous:" {
			kb, err := strconv.Atoi(f[1])
			if err != nil {
				r.t.Fatal(err)
			}
			return kb
		}
	}
	r.t.Fatal("no Anonymous in smaps_rollup")
	return 0
}
