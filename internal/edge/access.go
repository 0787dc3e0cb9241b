package edge

import (
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"gapless"
)

// accessLog is one access log. Requests put whole lines into the buffer of a
// shard, under a lock that nobody holds for longer than it takes to write a
// line into memory; one goroutine takes the buffers to the file. When the file
// is slower than the requests, lines are dropped and counted.
type accessLog struct {
	app    string
	file   accessFile // the writer's
	policy atomic.Pointer[gapless.AccessLog]
	shards []shard

	pending atomic.Bool   // some was signalled
	some    chan struct{} // there are lines
	full    chan struct{} // a buffer is so full that it should be written now
	stop    chan struct{}
	done    chan struct{}

	lines, dropped atomic.Uint64
}

// shard has the lines of one part of the requests that wait to be written.
type shard struct {
	mu         sync.Mutex
	buf, spare []byte
	clock      wallClock
	_          [40]byte // of another cache line than the next one
}

const (
	flushAt    = 128 << 10 // bytes in one shard that are written at once
	flushEvery = 200 * time.Millisecond
	shardLimit = 1 << 20 // bytes that wait in one shard; what comes then is dropped
	shardKeep  = 256 << 10
	idleAfter  = 10 * time.Second // without a line, buffers are given back
)

func newAccessLog(app string, cfg gapless.AccessLog, fail func(error)) *accessLog {
	n := 1
	for n < runtime.GOMAXPROCS(0) && n < 16 {
		n *= 2
	}
	l := &accessLog{
		app: app, shards: make([]shard, n), file: accessFile{path: cfg.Path, report: fail},
		some: make(chan struct{}, 1), full: make(chan struct{}, 1), stop: make(chan struct{}), done: make(chan struct{}),
	}
	l.policy.Store(&cfg)
	go l.write()
	return l
}

// close writes what is left and ends.
func (l *accessLog) close() {
	close(l.stop)
	<-l.done
}

// write takes lines to the file until the log is closed.
func (l *accessLog) write() {
	defer close(l.done)
	defer l.file.close()
	idle := time.NewTimer(idleAfter)
	defer idle.Stop()
	for {
		select {
		case <-l.some:
		case <-idle.C:
			l.release()
			continue
		case <-l.stop:
			l.flush()
			return
		}
		gather := time.NewTimer(flushEvery)
		select {
		case <-gather.C:
		case <-l.full:
		case <-l.stop:
		}
		gather.Stop()
		l.pending.Store(false)
		l.flush()
		idle.Reset(idleAfter)
	}
}

// flush writes what the shards have.
func (l *accessLog) flush() {
	p := l.policy.Load()
	for i := range l.shards {
		s := &l.shards[i]
		s.mu.Lock()
		b := s.buf
		s.buf, s.spare = s.spare, nil
		s.mu.Unlock()
		if len(b) > 0 {
			lines, lost := l.file.write(b, p)
			l.lines.Add(lines)
			l.dropped.Add(lost)
		}
		if cap(b) > shardKeep {
			continue
		}
		s.mu.Lock()
		if s.buf == nil {
			s.buf = b[:0]
		} else {
			s.spare = b[:0]
		}
		s.mu.Unlock()
	}
}

// release gives buffers back that are empty.
func (l *accessLog) release() {
	for i := range l.shards {
		s := &l.shards[i]
		s.mu.Lock()
		if len(s.buf) == 0 {
			s.buf, s.spare = nil, nil
		}
		s.mu.Unlock()
	}
}

// open returns a shard, locked, to which one line is to be appended; nil: it
// is full, and the line is counted as dropped.
func (l *accessLog) open(lane uint32, now int64) *shard {
	s := &l.shards[int(lane)%len(l.shards)]
	s.mu.Lock()
	if len(s.buf) >= shardLimit {
		s.mu.Unlock()
		l.dropped.Add(1)
		return nil
	}
	s.clock.set(now)
	return s
}

// shut ends what open began.
func (l *accessLog) shut(s *shard) {
	n := len(s.buf)
	s.mu.Unlock()
	if !l.pending.Load() && l.pending.CompareAndSwap(false, true) {
		signal(l.some)
	}
	if n >= flushAt {
		signal(l.full)
	}
}

func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// wallClock turns the edge clock into the time of day, written down once per
// second. It looks at the machine's clock as often, so that it follows when
// that is set.
type wallClock struct {
	offset int64 // edge clock → nanoseconds since 1970
	until  int64 // edge clock until which the offset is believed
	second int64 // that is written down
	milli  int64
	iso    [20]byte // 2006-01-02T15:04:05.
	clf    [26]byte // 02/Jan/2006:15:04:05 +0000
}

func (w *wallClock) set(now int64) {
	if now >= w.until {
		w.offset, w.until = time.Now().UnixNano()-now, now+int64(time.Second)
	}
	ms := (now + w.offset) / 1e6
	w.milli = ms % 1000
	if s := ms / 1000; s != w.second {
		w.second = s
		t := time.Unix(s, 0).UTC()
		t.AppendFormat(w.iso[:0], "2006-01-02T15:04:05.")
		t.AppendFormat(w.clf[:0], "02/Jan/2006:15:04:05 +0000")
	}
}
