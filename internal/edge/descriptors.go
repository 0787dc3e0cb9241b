package edge

import "syscall"

// descriptorsKept are those that are left to control, listeners, probes and
// whatever is on its way.
const descriptorsKept = 128

// connectionsFor raises the limit of descriptors, where that is allowed, so
// that want connections and one to an instance for each fit below it. It
// returns how many do.
func connectionsFor(want int) int {
	var l syscall.Rlimit
	if syscall.Getrlimit(syscall.RLIMIT_NOFILE, &l) != nil {
		return want
	}
	if need := uint64(2*want + descriptorsKept); l.Cur < need {
		more := l
		more.Cur = min(more.Max, need)
		if need > l.Max {
			all := syscall.Rlimit{Cur: need, Max: need} // root may
			if syscall.Setrlimit(syscall.RLIMIT_NOFILE, &all) == nil {
				more = all
			} else {
				more.Cur = l.Max
			}
		}
		if syscall.Setrlimit(syscall.RLIMIT_NOFILE, &more) == nil {
			l = more
		}
	}
	return connectionsBelow(l.Cur, want)
}

// connectionsBelow is how many connections of clients there may be with so
// many descriptors.
func connectionsBelow(descriptors uint64, want int) int {
	if descriptors >= uint64(2*want+descriptorsKept) {
		return want
	}
	return max(int(descriptors)-descriptorsKept, 2*16) / 2
}
