//go:build linux

package supervise

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"gapless"

	"github.com/google/go-cmp/cmp"
)

func limit(memory int64, cpu float64) func(*gapless.Release) {
	return func(r *gapless.Release) { r.Spec.Processes[0].Memory, r.Spec.Processes[0].CPU = memory, cpu }
}

// growTo makes an app that holds that many MiB, 5 every 20 ms.
func growTo(mib string) string {
	return `const a=[];const t=setInterval(()=>{if(a.length*5<` + mib + `)a.push(Buffer.alloc(5e6,1))},20);` + goodApp
}

func TestOverMemoryIsSeenBeforeTheKernelKills(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	in := b.start(b.release(growTo("100"), limit(96<<20, 0))) // 95 MiB and node's own are between 1 and 1.5 times 96
	got := b.until(in.ID, "over its memory", func(in gapless.Instance) bool { return in.OverMem })
	if got.State != gapless.Ready || got.Memory <= 96<<20 || got.Restarts != 0 {
		t.Errorf("instance is %+v", got)
	}
	b.stop(in.ID)
}

func TestKernelKillsAtHardLimit(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	t.Log(b.Capabilities())
	if b.limits.memory == nil {
		t.Skip("no memory cgroup here: ", b.limits.noMemory)
	}
	in := b.start(b.release(growTo("4000"), limit(64<<20, 0)))
	dirs := b.host.spec(in.ID).Cgroups
	got := b.untilState(in.ID, gapless.Crashed)
	wantText(t, "reason", got.Reason, "was killed after", "for using more than 96 MiB of memory")
	if got.Exit == nil || !got.Exit.OOM {
		t.Errorf("exit is %v", got.Exit)
	}
	b.stop(in.ID)
	if len(dirs) == 0 {
		t.Fatal("no cgroup")
	}
	for _, dir := range dirs {
		if isDir(dir) || isDir(filepath.Dir(dir)) {
			t.Errorf("cgroup %s is still there", dir)
		}
	}
}

func TestCPULimit(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.Capabilities()
	if b.limits.cpu == nil {
		t.Skip("no cpu cgroup here: ", b.limits.noCP)
	}
	// It counts how much CPU it got in 1 s of trying to get all of one.
	in := b.start(b.release(`const e=Date.now()+1000;const u=process.cpuUsage();while(Date.now()<e);
		const v=process.cpuUsage(u);require('fs').writeFileSync('used',''+(v.user+v.system));setInterval(()=>{},1000)`,
		worker("node", "app.js"), limit(0, 0.2)))
	file := filepath.Join(b.host.spec(in.ID).Dir, "used")
	waitFile(t, file)
	b.until(in.ID, "measured", func(gapless.Instance) bool { s, err := os.Stat(file); return err == nil && s.Size() > 0 })
	used, _ := os.ReadFile(file)
	if n := strings.TrimSpace(string(used)); len(n) > 6 || len(n) == 6 && n > "350000" {
		t.Errorf("it got %s µs of CPU in a second, its limit is 200000", n)
	}
	b.stop(in.ID)
}

func TestReadCgroupMounts(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string) string {
		file := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		return file
	}
	write("unified/system.slice/gapless.service/cgroup.controllers", "cpu memory pids\n")
	write("memory/box/x", "")
	info := write("mountinfo", `23 1 0:1 / / rw - ext4 /dev/sda rw
35 31 0:32 / `+dir+`/memory rw,relatime - cgroup cgroup rw,memory
36 31 0:33 /docker/abc `+dir+`/cpu rw shared:5 - cgroup cgroup rw,cpu,cpuacct
41 31 0:38 / `+dir+`/unified rw - cgroup2 cgroup2 rw,nsdelegate
`)
	own := write("cgroup", "4:memory:/box\n3:cpu,cpuacct:/docker/abc\n0::/system.slice/gapless.service\n")
	got, err := readCgroupMounts(info, own)
	if err != nil {
		t.Fatal(err)
	}
	want := []cgroupMount{
		{1, dir + "/memory", dir + "/memory/box", []string{"rw", "memory"}},
		{1, dir + "/cpu", dir + "/cpu", []string{"rw", "cpu", "cpuacct"}},
		{2, dir + "/unified", dir + "/unified/system.slice/gapless.service", []string{"cpu", "memory", "pids"}},
	}
	if d := cmp.Diff(want, got, cmp.AllowUnexported(cgroupMount{})); d != "" {
		t.Error(d)
	}
}

// A version 2 hierarchy, played by plain files: what is written where.
func TestVersion2Limits(t *testing.T) {
	root := t.TempDir()
	name := "gapless-test"
	for _, dir := range []string{root, filepath.Join(root, name), filepath.Join(root, name, "i")} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		for _, f := range []string{"cgroup.subtree_control", "memory.max", "cpu.max", "cgroup.procs"} {
			if err := os.WriteFile(filepath.Join(dir, f), nil, 0o644); err != nil {
				t.Fatal(err)
			}
		}
	}
	l := &limits{name: name,
		memory: &hierarchy{filepath.Join(root, name), "memory", 2},
		cpu:    &hierarchy{filepath.Join(root, name), "cpu", 2},
	}
	l.once.Do(func() {})
	dirs, err := l.make("i", 100<<20, 1.5)
	if err != nil || len(dirs) != 1 {
		t.Fatalf("%v, %v; want one directory for both", dirs, err)
	}
	for file, want := range map[string]string{"i/memory.max": "157286400", "i/cpu.max": "150000 100000", "cgroup.subtree_control": "+cpu"} {
		got, _ := os.ReadFile(filepath.Join(root, name, file))
		// A plain file keeps the rest of what was written before.
		if !strings.HasPrefix(string(got), want) {
			t.Errorf("%s is %q, want %q", file, got, want)
		}
	}
}

func TestOOMKillsAreCounted(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "memory.events"), []byte("low 0\nmax 3\noom 1\noom_kill 2\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	if n := oomKills([]string{dir, t.TempDir()}); n != 2 {
		t.Errorf("counted %d, want 2", n)
	}
}
