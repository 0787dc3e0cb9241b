package edge

import (
	"bufio"
	"math"
	"os"
	"runtime/debug"
	"strconv"
	"strings"
	"sync/atomic"
)

// room bounds the memory that exchanges hold in buffers. It is counted by
// what an exchange may hold at most, so that no buffer is counted on its way.
type room struct {
	used atomic.Int64
	max  int64
}

const (
	exchangeRoom = 3 * bufferSize // the request, its head as rewritten, and the answer
	streamRoom   = bufferSize     // once the answer is on its way and the request is done
	roomLeast    = 64 << 20
	roomMost     = 4 << 30
)

// take takes n bytes, if no more than most are taken then.
func (r *room) take(n, most int64) bool {
	if r.used.Add(n) > most {
		r.used.Add(-n)
		return false
	}
	return true
}

func (r *room) give(n int64) { r.used.Add(-n) }

// reserve takes room for a request whose head, or small body, does not come at
// once. It reports false if there is none: such requests may have half of the
// room together, so that those that send slowly never keep the others out.
func (x *exchange) reserve(e *Edge, n int64) bool {
	if x.claim > 0 {
		return true
	}
	if !e.room.take(n, e.room.max/2) {
		e.shed.overload.Add(1)
		return false
	}
	x.edge, x.claim = e, n
	return true
}

// release gives back what the exchange was admitted with, but for keep bytes.
func (x *exchange) release(keep int64) {
	if x.claim > keep {
		x.edge.room.give(x.claim - keep)
		x.claim = keep
	}
}

// roomOf is a quarter of the memory that this process may use.
func roomOf(memory int64) int64 { return min(max(memory/4, roomLeast), roomMost) }

// memory is how many bytes this process may use: the least of what the
// machine has, its control group allows and GOMEMLIMIT says.
func memory() int64 {
	least := int64(math.MaxInt64)
	take := func(n int64) {
		if n > 0 {
			least = min(least, n)
		}
	}
	take(debug.SetMemoryLimit(-1))
	take(lineValue("/proc/meminfo", "MemTotal:") << 10)
	if b, err := os.ReadFile("/proc/self/cgroup"); err == nil {
		for line := range strings.Lines(string(b)) {
			group, ok := strings.CutPrefix(strings.TrimSpace(line), "0::")
			for ok {
				take(numberIn("/sys/fs/cgroup" + group + "/memory.max"))
				up := strings.LastIndexByte(group, '/')
				if ok = up >= 0; ok {
					group = group[:up]
				}
			}
		}
	}
	take(numberIn("/sys/fs/cgroup/memory/memory.limit_in_bytes"))
	if least == math.MaxInt64 {
		return 2 << 30
	}
	return least
}

func numberIn(file string) int64 {
	b, err := os.ReadFile(file)
	if err != nil {
		return 0
	}
	n, _ := strconv.ParseInt(strings.TrimSpace(string(b)), 10, 64) // "max" is no limit
	return n
}

func lineValue(file, name string) int64 {
	f, err := os.Open(file)
	if err != nil {
		return 0
	}
	defer f.Close()
	for sc := bufio.NewScanner(f); sc.Scan(); {
		if rest, ok := strings.CutPrefix(sc.Text(), name); ok {
			n, _ := strconv.ParseInt(strings.Fields(rest + " 0")[0], 10, 64)
			return n
		}
	}
	return 0
}
