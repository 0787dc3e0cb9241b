//go:build linux

package supervise

import (
	"testing"
	"time"

	"gapless"
)

// An app that burns half a second of processor time, half of that in a child
// that has ended since.
const burnApp = `const burn = "const e=process.cpuUsage().user+250e3; while(process.cpuUsage().user<e);";
eval(burn); require('child_process').spawnSync(process.execPath, ['-e', burn]);` + goodApp

func TestCPUOfTheWholeTree(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	if got := b.CPU(); len(got) != 0 {
		t.Errorf("nothing runs and uses %v", got)
	}
	in := b.start(b.release(burnApp))
	b.untilState(in.ID, gapless.Ready)
	used := b.CPU()[in.ID]
	if used < .48 || used > 20 { // in clock ticks of 10 ms
		t.Errorf("it used %.2f s, it burned 0.5 s", used)
	}
	time.Sleep(50 * time.Millisecond) // only so that it could fall
	if later := b.CPU()[in.ID]; later < used {
		t.Errorf("the processor time fell from %.2f s to %.2f s", used, later)
	}
	b.stop(in.ID)
	if got := b.CPU(); len(got) != 0 {
		t.Errorf("it is stopped and uses %v", got)
	}
}
